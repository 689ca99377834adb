/** Every table of descriptors in the sources: that its keys are those of its interface is held by types, the rest here. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { listTypeScript } from '../scripts/source-text.ts'
import type { AnyOptionTable, Option, OptionKind } from '../src/primitives/option-table.ts'

const ROOT = path.join(import.meta.dirname, '..')
/** What a field is called says which unit it has. */
const UNITS: readonly (readonly [suffix: RegExp, kind: OptionKind])[] = [
  [/Ms(?:Max)?$/, 'duration'],
  [/BytesPerSecond$/, 'rate'],
  [/Bytes(?:Max)?$/, 'size'],
]
const UNIT_KINDS: ReadonlySet<OptionKind> = new Set(UNITS.map(([, kind]) => kind))

interface Found {
  readonly file: string
  readonly name: string
  readonly table: AnyOptionTable
  readonly defaults: Readonly<Record<string, unknown>>
}

async function tables(): Promise<Found[]> {
  const found: Found[] = []
  for (const file of listTypeScript(ROOT).filter(name => name.startsWith('src/'))) {
    const source = readFileSync(path.join(ROOT, file), 'utf8')
    const names = [...source.matchAll(/^export const ([A-Z0-9_]+)_OPTIONS = \{/gm)].map(match => match[1] ?? '')
    if (names.length === 0) continue
    const module = await import(pathToFileURL(path.join(ROOT, file)).href) as Readonly<Record<string, unknown>>
    for (const name of names) {
      const isHeld = new RegExp(`^\\} satisfies OptionTable<|^export const ${name}_OPTIONS = .* satisfies OptionTable<`, 'm')
      assert.ok(isHeld.test(source), `${file}: ${name}_OPTIONS is held by types`)
      // The client's side of HTTP/1 has no constructor of its own.
      const defaults = (module[`${name}_DEFAULTS`] ?? {}) as Found['defaults']
      found.push({ file, name, table: module[`${name}_OPTIONS`] as AnyOptionTable, defaults })
    }
  }
  return found
}

function faultsIn(name: string, option: Option): string[] {
  const unit = UNITS.find(([suffix]) => suffix.test(name))?.[1] ?? null
  const faults: string[] = []
  if (unit !== null && option.kind !== unit) faults.push(`is called like a ${unit} and is a ${option.kind}`)
  if (unit === null && UNIT_KINDS.has(option.kind)) faults.push(`is a ${option.kind} and its name has no unit`)
  if (!option.needed && option.check(option.default) !== '') faults.push(`has a default that is refused: ${option.check(option.default)}`)
  if (option.zero !== '' && option.check(0) !== '') faults.push('says what 0 means and refuses it')
  return faults
}

test('option tables: names say the unit, defaults are allowed, and so is 0 where it means something', async () => {
  const all = await tables()
  assert.ok(all.length >= 25, `${all.length} tables`)
  const faults = all.flatMap(({ file, name, table }) => Object.entries(table).flatMap(([field, option]) => {
    return faultsIn(field, option).map(fault => `${file} ${name}.${field} ${fault}`)
  }))
  assert.deepEqual(faults, [])
})

test('option tables: the constant with the defaults is the one of the table, and an order is one among its own options', async () => {
  for (const { file, name, table, defaults } of await tables()) {
    for (const [field, option] of Object.entries(table)) {
      if (Object.hasOwn(defaults, field)) assert.equal(defaults[field], option.default, `${file} ${name}.${field}`)
      if (option.atLeast !== '') assert.ok(Object.hasOwn(table, option.atLeast), `${file} ${name}.${field}`)
    }
    for (const field of Object.keys(defaults)) assert.ok(Object.hasOwn(table, field), `${file} ${name}.${field}`)
  }
})
