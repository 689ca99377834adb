/**
 * Doc comments of options as an operator reads them. A comment speaks of fields and of plain numbers: "Wait after the first
 * death, in ms. At least backoffMs."; a file has keys, and values with units. So the clause that names the unit goes, other
 * options are called by their keys, and the sentence with the least value goes, as the documentation has a column for it.
 */

export interface OperatorKey {
  /** As written: `restart.backoff`. */
  readonly key: string
  /** Name in code: `backoffMs`. */
  readonly field: string
}

/** @param key whose comment it is: options of the same section are called without it. */
export function operatorWords(doc: string, key: string, keys: readonly OperatorKey[]): string {
  const section = sectionOf(key)
  const byField = new Map(keys.map(other => [other.field, other.key]))
  // Two sections may have a field of one name; the own section's is meant.
  for (const other of keys) if (sectionOf(other.key) === section) byField.set(other.field, other.key)
  return doc
    .replaceAll(/ ?\bAt least [\w,]+(?:\.|$)/g, '')
    .replaceAll(/, in (?:ms|bytes(?: a second)?)(?=[.,;]|$)/g, '')
    .replaceAll(/`?\b([a-z]+[A-Z]\w*)\b`?/g, (found, field: string) => {
      const written = byField.get(field)
      if (written === undefined) return found
      return `\`${sectionOf(written) === section ? written.slice(section.length + 1) : written}\``
    })
    .trim()
}

/** What is left of the code's own words: units without a number, names that end with one. */
export function codeWordsIn(text: string): readonly string[] {
  return [...text.matchAll(/\bin (?:ms|bytes)\b|\b[a-z]\w*(?:Ms|MsMax|Bytes|BytesPerSecond)\b/g)].map(match => match[0])
}

function sectionOf(key: string): string { return key.slice(0, key.lastIndexOf('.')) }
