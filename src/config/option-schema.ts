/**
 * The schema of options in the written form, made from their tables of descriptors: its result has the values of the code.
 * A value is read by its kind and then checked by the descriptor itself, so that a file and a constructor agree on what
 * will do. Environment and flags bring everything as text, which is read the same way.
 */
import { z } from 'zod'
import type { AnyOptionTable, Option } from '../primitives/option-table.ts'
import { DURATION_PATTERN, formatDuration, formatSize, parseDuration, parseSize, SIZE_PATTERN } from './units.ts'
import { exampleOf, writable, writtenKey } from './written-options.ts'

export type Field = z.ZodType<unknown>

/** A section that may say each option of the table, by its written key, and nothing else. */
export function sectionSchema(table: AnyOptionTable): z.ZodObject {
  const fields = Object.entries(writable(table)).map(([name, option]) => [writtenKey(name, option), fieldSchema(option).optional()])
  return z.strictObject(Object.fromEntries(fields) as Record<string, z.ZodOptional>, { error: 'a section with keys' })
}

/** `error` on every step, so that each fault of a value is one issue whose message says what would do. */
function fieldSchema(option: Option): Field {
  switch (option.kind) {
    case 'duration': return quantity(option, DURATION_PATTERN, parseDuration, formatDuration)
    case 'size': case 'rate': return quantity(option, SIZE_PATTERN, parseSize, formatSize)
    case 'count': return countOrWord(option)
    case 'number': return fraction(option)
    case 'flag': return yesOrNo()
    case 'choice': return oneOf(option)
    case 'text': case 'path': return line(option)
    case 'list': return lines(option)
    case 'options': return sectionSchema(option.table!)
    case 'code': throw new TypeError('an option that only code can give has no written form')
    default: return option.kind satisfies never
  }
}

/** A number with its unit; 0 needs none. */
function quantity(option: Option, pattern: RegExp, parse: (text: string) => number | null, format: (value: number) => string): Field {
  const { kind, max, min, zero } = option
  const noun = kind === 'duration' ? 'a duration with a unit (ms, s, m, h, d)' : 'a size with a unit (B, kB, MB, GB, KiB, MiB, GiB)'
  const least = min > 1 || zero === '' ? `of at least ${format(min)}, ` : ''
  const expected = `${noun} ${least}such as ${exampleOf(option)}${zero === '' ? '' : ', or 0'}`
  const remedyFor = (value: unknown): string => typeof value === 'number' && value > max ? `at most ${format(max)}` : expected
  return z.union([z.literal(0), z.literal('0'), z.string().regex(pattern, { error: expected })], { error: expected })
    .transform(value => parse(String(value)) ?? Number.NaN)
    .refine(value => option.check(value) === '', { error: ({ input }) => remedyFor(input) })
}

/** A whole number; environment and flags bring it as text. Or one of a few words. */
function countOrWord(option: Option): Field {
  const { max, min, words, zero } = option
  const expected = [...words, `a whole number from ${zero === '' ? min : 0} to ${max}`].join(', or ')
  const digits = z.string().regex(/^\d{1,15}$/, { error: expected })
  return z.union([z.int({ error: expected }), digits, z.literal([...words])], { error: expected })
    .transform(value => words.includes(String(value)) ? value : Number(value))
    .refine(value => option.check(value) === '', { error: expected })
}

function fraction(option: Option): Field {
  const expected = `a number from ${option.min} to ${option.max}`
  return z.union([z.number(), z.string().regex(/^\d{1,9}(?:\.\d{1,9})?$/, { error: expected })], { error: expected })
    .transform(Number)
    .refine(value => option.check(value) === '', { error: expected })
}

function oneOf(option: Option): Field {
  const expected = `one of ${option.words.join(', ')}`
  return z.union([z.string(), z.number()], { error: expected })
    .refine(value => option.words.includes(String(value)), { error: expected })
    // A choice among numbers comes as text from the environment.
    .transform(value => option.check(value) === '' ? value : Number(value))
}

function yesOrNo(): Field {
  return z.union([z.boolean(), z.enum(['true', 'false'])], { error: 'true or false' })
    .transform(value => value === true || value === 'true')
}

/** One line of text; numbers are text here, as for a numeric user. */
function line(option: Option): Field {
  return z.union([z.string(), z.int({ error: option.remedy })], { error: option.remedy })
    .transform(String)
    .refine(value => option.check(value) === '', { error: ({ input }) => option.check(input) })
}

/** Texts; the environment and flags bring all of them as one, with commas between. */
function lines(option: Option): Field {
  const { remedy: error } = option
  return z.union([z.array(z.string({ error }), { error }), z.string()], { error })
    .transform(value => typeof value === 'string' ? itemsOf(value) : value)
    .refine(value => option.check(value) === '', { error: ({ input }) => option.check(input) })
}

/** In brackets or without. */
function itemsOf(text: string): string[] {
  const inside = /^\[(.*)\]$/.exec(text.trim())?.[1] ?? text
  return inside.split(',').map(item => item.trim()).filter(item => item !== '')
}
