/**
 * Names of members that were meant to be others: `requestFiler`, `request_filter`, `onRequestFilter` for `requestFilter`. Who
 * looks for members by name would pass over them in silence.
 *
 * Whoever implements an interface has members of its own beside it, so only a slip of the pen counts: names are compared word by
 * word (`filterOf`, `doRequestFilter` and `login` are no slips of `requestFilter` and `logging`), and a name that begins with `_`
 * is its owner's.
 */
import { editDistance } from './nearest-word.ts'

/** Each differs from what was meant by this much in all: one slip, or one in each of two words. */
const MAX_DISTANCE = 2

/** In words of fewer letters a slip makes another word. */
const MIN_LETTERS = 3

/** @returns the one of `known` that `name` was meant to be; null when it is one of them, or somebody's own. */
export function misspeltName(name: string, known: readonly string[], isPresent: (name: string) => boolean): string | null {
  if (name.startsWith('_') || known.includes(name)) return null
  const words = wordsOf(name)
  return known.find(one => isSlip(words, wordsOf(one), isPresent(one))) ?? null
}

/** `camelCase`, `snake_case` and `kebab-case`, in lower case. */
function wordsOf(name: string): string[] {
  return name.split(/[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])/).filter(word => word !== '').map(word => word.toLowerCase())
}

/** @param present what was meant is there as well: then a plural, a tense or a number makes another name */
function isSlip(words: readonly string[], meant: readonly string[], present: boolean): boolean {
  if (words.join('') === meant.join('')) return true
  if (sameWords(words, ['on', ...meant]) || sameWords(['on', ...words], meant)) return true
  if (present && sameWords(words.map(plain), meant.map(plain))) return false
  if (sameWords(words.map(plain), meant.map(plain))) return true
  if (words.length === meant.length) return nearWords(words, meant)
  // Words that have run together: `requestfiler`.
  return words.length < meant.length && editDistance(words.join(''), meant.join('')) === 1
}

function sameWords(left: readonly string[], right: readonly string[]): boolean { return left.join(' ') === right.join(' ') }

/** Without what makes a plural or another tense, or numbers things. */
function plain(word: string): string { return word.replace(/(?<=\w{3})(?:s|ed|ing|\d+)$/, '') }

function nearWords(words: readonly string[], meant: readonly string[]): boolean {
  let sum = 0
  for (const [at, word] of words.entries()) {
    const other = meant[at]!, distance = editDistance(word, other)
    if (distance > 1 || (distance > 0 && Math.max(word.length, other.length) < MIN_LETTERS)) return false
    sum += distance
  }
  return sum <= MAX_DISTANCE
}

/** Members of an object and of its classes, by name; a getter is undefined. */
export function membersOf(object: object): Map<string, unknown> {
  const members = new Map<string, unknown>()
  for (let at: object | null = object; at !== null && at !== Object.prototype; at = Object.getPrototypeOf(at) as object | null) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(at))) {
      if (name !== 'constructor' && !members.has(name)) members.set(name, value)
    }
  }
  return members
}
