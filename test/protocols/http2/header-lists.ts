/**
 * Random lists of fields, the same ones from the same seed: heads as they look on connections that carry many of them, with names and
 * values that come again, some that never do, secrets, empty ones, bytes over 0x7f, and table sizes that change between two lists.
 * data/nghttp2-blocks.gz is what nghttp2 makes of them (scripts/hpack/main.ts).
 */
import { STATIC_TABLE } from '../../../src/protocols/http2/hpack-field.ts'
import { Dice } from '../../support/dice.ts'

export interface HeaderList {
  /** A new connection, with an empty table, begins with this list. */
  readonly begins: boolean
  /** What the receiver allows from this list on; -1: as before. */
  readonly tableBytes: number
  /** The last part: not to be indexed. */
  readonly fields: readonly (readonly [name: string, value: string, secret: boolean])[]
}

export const LISTS = 100_000
export const SEED = 7541

const A_CONNECTION = 1000
const MAX_TABLE_BYTES = 4096

const VISIBLE = Array.from({ length: 95 }, (_, at) => String.fromCharCode(0x20 + at))
const ANY = Array.from({ length: 256 }, (_, at) => String.fromCharCode(at))
const NAME_CHARS = [...'abcdefghijklmnopqrstuvwxyz0123456789-_.!']

function text(dice: Dice, chars: readonly string[], most: number): string {
  return Array.from({ length: dice.below(most + 1) }, () => dice.pick(chars)).join('')
}

export function* headerLists(count: number, seed: number): Generator<HeaderList> {
  const dice = new Dice(seed)
  const names = [
    ...new Set(STATIC_TABLE.map(({ name }) => name)), ...Array.from({ length: 60 }, () => `x${text(dice, NAME_CHARS, 20)}`),
  ]
  const values = new Map(names.map(name => [name, [
    ...STATIC_TABLE.filter(each => each.name === name).map(({ value }) => value),
    ...Array.from({ length: 12 }, () => text(dice, VISIBLE, dice.pick([4, 12, 60]))),
  ]]))
  let common: string[] = []
  for (let at = 0; at < count; at++) {
    const begins = at % A_CONNECTION === 0
    if (begins) common = Array.from({ length: 12 }, () => dice.pick(names))
    const tableBytes = dice.below(400) === 0 ? dice.pick([0, 100, 1000, MAX_TABLE_BYTES, MAX_TABLE_BYTES]) : -1
    const fields = Array.from({ length: dice.below(8) }, (): readonly [string, string, boolean] => {
      const kind = dice.below(100)
      // A few are new, in name or value, and of any length and byte.
      if (kind === 0) return [text(dice, NAME_CHARS, 30), text(dice, ANY, 40), false]
      const name = kind < 90 ? dice.pick(common) : dice.pick(names), known = values.get(name)!
      if (kind < 4) return [name, text(dice, VISIBLE, 30), dice.below(2) === 0]
      return [name, known[dice.below(dice.pick([3, known.length]))]!, kind > 97]
    })
    yield { begins, tableBytes, fields }
  }
}
