/**
 * Tables of the documentation that are made from the code, each between two marks of its page:
 * options of the processes, fields of the access log, flags of the access log.
 * check-lists.ts compares them with the pages, or writes them there.
 */
import { existsSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { allowedValues, writtenValue } from '../src/config/written-options.ts'
import type { Option } from '../src/primitives/option-table.ts'
import { operatorWords, type OperatorKey } from './operator-words.ts'
import { declaredInterfaces, inheritedFields, type InterfaceField } from './source-text.ts'

export interface GeneratedTable {
  readonly page: string
  readonly name: string
  /** The file whose change changes the table. */
  readonly source: string
  readonly lines: readonly string[]
}

export function tableMarks(name: string): readonly [begin: string, end: string] {
  return [`<!-- begin: ${name} -->`, `<!-- end: ${name} -->`]
}

const CONFIG_SOURCE = 'src/config/server-config.ts'
const ACCESS_SOURCE = 'src/telemetry/exporters/access-log.ts'
const FLAG_SOURCE = 'src/proxy/fail-to-proxy.ts'

/** Tables whose source exists; a tree without it has nothing to describe. */
export async function generatedTables(root: string): Promise<GeneratedTable[]> {
  const tables: GeneratedTable[] = []
  const has = (file: string): boolean => existsSync(path.join(root, file))
  const load = async (file: string): Promise<Record<string, unknown>> => await import(pathToFileURL(path.join(root, file)).href)
  if (has(CONFIG_SOURCE)) tables.push(...optionTables(root, await load(CONFIG_SOURCE)))
  if (has(ACCESS_SOURCE)) tables.push(fieldTable(root, await load(ACCESS_SOURCE)))
  if (has(FLAG_SOURCE)) tables.push(flagTable(await load(FLAG_SOURCE)))
  return tables
}

/** The doc comment as it reads in a table: without @default, and without the bars that would end a cell. */
function meaningOf(field: InterfaceField | undefined): string {
  return (field?.doc ?? '').replace(/\s*@default\s.*$/, '').replaceAll('|', '\\|')
}

interface DescribedKey extends OperatorKey {
  readonly section: { readonly name: string; readonly declared: string }
  readonly option: Option
}

function optionTables(root: string, module: Readonly<Record<string, unknown>>): GeneratedTable[] {
  const keys = module['CONFIG_KEYS'] as readonly DescribedKey[]
  const declared = declaredInterfaces(root)
  const tables = new Map<string, string[]>()
  for (const { key, section, field, option } of keys) {
    const interfaceText = declared.get(section.declared)
    const fields = interfaceText === undefined ? [] : [...inheritedFields(interfaceText, declared) ?? [], ...interfaceText.fields]
    const meaning = operatorWords(meaningOf(fields.find(({ name }) => name === field)), key, keys)
    const nameOf = (other: string): string => keys.find(known => known.section === section && known.field === other)?.key ?? other
    const name = section.name.replace(/\..*$/, '')
    const lines = tables.get(name) ?? ['| key | default | allowed | meaning |', '|---|---|---|---|']
    lines.push(`| \`${key}\` | \`${writtenValue(option, option.default)}\` | ${allowedValues(option, nameOf)} | ${meaning} |`)
    tables.set(name, lines)
  }
  return [...tables].map(([name, lines]) => ({ page: 'docs/configuration.md', name: `options of ${name}`, source: CONFIG_SOURCE, lines }))
}

function fieldTable(root: string, module: Readonly<Record<string, unknown>>): GeneratedTable {
  const record = declaredInterfaces(root).get('AccessRecord')
  const lines = ['| field | meaning |', '|---|---|']
  for (const name of module['ACCESS_FIELDS'] as readonly string[]) {
    lines.push(`| \`${name}\` | ${meaningOf(record?.fields.find(field => field.name === name))} |`)
  }
  return { page: 'docs/access-log.md', name: 'fields', source: ACCESS_SOURCE, lines }
}

function flagTable(module: Readonly<Record<string, unknown>>): GeneratedTable {
  const flags = module['FLAGS'] as Readonly<Record<string, string>>
  const rows = Object.entries(flags).map(([flag, meaning]) => `| \`${flag}\` | ${meaning} |`)
  return { page: 'docs/access-log.md', name: 'flags', source: FLAG_SOURCE, lines: ['| flag | meaning |', '|---|---|', ...rows] }
}
