/**
 * JSON of printable ASCII alone: the same in every encoding, as many bytes as characters, and nothing in it that a terminal acts
 * upon. JSON.stringify leaves what is beyond ASCII as it is, and among that are controls of terminals (U+009B begins a sequence).
 */
export function asciiJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(BEYOND, char => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** Halves of surrogate pairs one by one. */
const BEYOND = /[^\x20-\x7E]/g
