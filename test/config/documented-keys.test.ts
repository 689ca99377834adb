/**
 * What pages, help and messages say of the configuration is so: each key is one, and operators are told the names that they
 * write (`drain.hardDrain: 60s`), not those of the code (`hardDrainMs`). Blocks of YAML are read in test/docs/page-blocks.test.ts.
 */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { listPages } from '../../scripts/page-links.ts'
import { listTypeScript } from '../../scripts/source-text.ts'
import { CONFIG_KEYS, SECTIONS } from '../../src/config/server-config.ts'
import { writtenValue } from '../../src/config/written-options.ts'
import { createCommandLine } from '../../supervisor/cli.ts'
import { completedCommands } from '../../supervisor/commands/completed-commands.ts'

const ROOT = path.join(import.meta.dirname, '../..')
const read = (file: string): string => fs.readFileSync(path.join(ROOT, file), 'utf8')

/** Pages for those who run a server; others speak to those who write code. */
const FOR_OPERATORS = [
  'docs/access-log.md', 'docs/configuration.md', 'docs/containers.md', 'docs/operating.md', 'docs/start.md', 'scripts/systemd/README.md',
  'supervisor/README.md', 'create/template/README.md',
]

const SECTION_NAMES = [...SECTIONS.map(({ name }) => name), 'listeners']
/** `drain.hardDrain`, `listeners.*.maxHead`; not `upgrade.ts`, nor a call. */
const KEY = new RegExp(`\`((?:${SECTION_NAMES.join('|')})\\.(?:[\\w*]+\\.)*\\w+)(?:: [^\`]*|)\``, 'g')
const FILE = /\.(?:ts|js|mjs|md|sh|json|yaml|sock)$/

function unknownKeys(text: string): string[] {
  const known = new Set(CONFIG_KEYS.map(({ key }) => key))
  const named = [...text.matchAll(KEY)].map(([, key = '']) => key).filter(key => !FILE.test(key))
  return named.filter(key => !known.has(key.replace(/^listeners\.(?!\*)\w+\./, 'listeners.*.')))
}

/** Names that only code has, and keys without their section that nobody could take for another word. */
function codeNames(text: string): string[] {
  const own = CONFIG_KEYS.filter(({ section }) => section.name !== 'listeners.*')
  const written = new Map(own.map(({ key }) => [key.slice(key.indexOf('.') + 1), key]))
  const fields = new Map(own.map(({ field, key }) => [field, key]))
  return [...text.matchAll(/`([a-z]+[A-Z]\w*)(?:: [^`]*)?`/g)].flatMap(([, name = '']) => {
    const key = written.get(name) ?? fields.get(name)
    return key === undefined ? [] : [`${name}, which is written ${key}`]
  })
}

test('configuration: each key that a page, a comment or a message names is one', () => {
  const sources = ['create', 'src', 'supervisor', 'workers'].flatMap(folder => {
    return listTypeScript(path.join(ROOT, folder)).map(file => `${folder}/${file}`)
  })
  const wrong = [...listPages(ROOT), ...sources].flatMap(file => unknownKeys(read(file)).map(key => `${file}: ${key}`))
  // In code options lie within each other, and have units in their names.
  assert.deepEqual(wrong.filter(one => !/\.ts: .*(?:Ms|Bytes)$/.test(one)), [])
})

test('configuration: pages for operators say what operators write', () => {
  const inTables = 'docs/configuration.md'
  const wrong = FOR_OPERATORS.filter(file => file !== inTables).flatMap(file => codeNames(read(file)).map(name => `${file}: ${name}`))
  assert.deepEqual(wrong, [])
})

test('configuration: what the help says of a default is so', () => {
  const options = completedCommands(createCommandLine()).flatMap(command => command.options)
  const said = options.flatMap(({ description }) => [...description.matchAll(/default: (\w+\.\w+), which is (\w+)/g)])
  assert.ok(said.length > 0)
  for (const [, key = '', value = ''] of said) {
    const found = CONFIG_KEYS.find(one => one.key === key)
    assert.ok(found, key)
    assert.equal(writtenValue(found.option, found.option.default), value, key)
  }
})

test('configuration: a key that is none and a name of the code are found', () => {
  const page = '`supervisor.drain.stopTimeoutMs` `drain.hardDrain: 60s` `upgrade.ts` `listeners.*.maxHead` `log.maxQueue`'
  assert.deepEqual(unknownKeys(page), ['supervisor.drain.stopTimeoutMs', 'log.maxQueue'])
  assert.deepEqual(codeNames('`hardDrainMs`, `orphanPolicy: keep`, `drain.hardDrain`, `workers`'), [
    'hardDrainMs, which is written drain.hardDrain', 'orphanPolicy, which is written supervisor.orphanPolicy',
  ])
})
