/** The word that was meant: for remedies of misspelt names. */

/** A longer word is no slip of the pen, and measuring it would take a while. */
const MAX_WORD_LENGTH = 128

/** The known word that differs least from `word`; null when none is near. */
export function nearestWord(word: string, known: readonly string[]): string | null {
  if (word.length > MAX_WORD_LENGTH) return null
  const lower = word.toLowerCase()
  let best: string | null = null
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1
  for (const candidate of known) {
    const other = candidate.toLowerCase()
    // The beginning of a word says more than its length: `hard` for `hardDrain`.
    const begun = word.length > 2 && other.startsWith(lower)
    const distance = begun && other !== lower ? 1 : editDistance(lower, other)
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

/** Characters to insert, remove or replace (Levenshtein), two neighbours in the wrong order counting as one. */
export function editDistance(left: string, right: string): number {
  let before: number[] = []
  let previous = Array.from({ length: right.length + 1 }, (_, index) => index)
  for (let row = 1; row <= left.length; row++) {
    const current = [row]
    for (let column = 1; column <= right.length; column++) {
      const same = left[row - 1] === right[column - 1]
      const edited = Math.min((previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1)
      let cost = Math.min(edited, (previous[column - 1] ?? 0) + (same ? 0 : 1))
      const swapped = row > 1 && column > 1 && left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1]
      if (swapped) cost = Math.min(cost, (before[column - 2] ?? 0) + 1)
      current.push(cost)
    }
    before = previous
    previous = current
  }
  return previous[right.length] ?? 0
}
