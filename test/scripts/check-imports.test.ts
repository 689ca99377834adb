import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync } from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { CLOSED_WAYS, checkImports } from '../../scripts/check-imports.ts'
import { printFinding } from '../../scripts/source-text.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

const ROOT = path.join(import.meta.dirname, '../..')

/** A small tree that passes. */
const GOOD = {
  'src/errors/fault.ts': 'export class Fault extends Error {}\n',
  'src/http/head.ts': 'import { Fault } from \'../errors/fault.ts\'\nexport const head = Fault\n',
  'src/telemetry/tracer.ts': `import type { Head } from '../protocols/head.ts'
export interface Tracer { head: Head }
export const nothing = null
`,
  'src/protocols/head.ts': 'import type { Tracer } from \'../telemetry/tracer.ts\'\nexport type Head = Tracer | null\n',
  'src/proxy/exchange.ts': `import '../http/head.ts'
import { nothing } from '../telemetry/tracer.ts'
export const exchange = nothing
`,
  'src/config/schema.ts': 'import { z } from \'zod\'\nimport { isIP } from \'node:net\'\nexport const schema = [z, isIP]\n',
  'src/runtime-check.ts': 'export const fault = null\n',
  'src/index.ts': 'import \'./runtime-check.ts\'\nexport { exchange } from \'./proxy/exchange.ts\'\n',
  'workers/main.ts': `import '../src/runtime-check.ts'
import { exchange } from '../src/proxy/exchange.ts'
import cluster from 'node:cluster'
void [exchange, cluster]
`,
  'examples/app.ts': 'import { exchange } from \'cirque\'\nvoid exchange\n',
  'test/head.test.ts': 'import fc from \'fast-check\'\nimport { head } from \'../src/http/head.ts\'\nvoid [fc, head]\n',
}

const GUARD = 'import \'../src/runtime-check.ts\'\n'

function findingsIn(t: TestContext, changed: Readonly<Record<string, string>>): string[] {
  const root = temporaryFolder(t)
  writeTree(root, { ...GOOD, ...changed })
  return checkImports(root).map(printFinding)
}

test('imports: a tree that keeps to the table has no findings', t => {
  assert.deepEqual(findingsIn(t, {}), [])
})

test('imports: a folder that reaches below itself is found, type imports too', t => {
  assert.deepEqual(findingsIn(t, {
    'src/http/head.ts': '\nimport type { exchange } from \'../proxy/exchange.ts\'\nexport type Head = typeof exchange\n',
  }), [
    'src/http/head.ts:2: imports src/proxy/exchange.ts (type); src/http/ src/ipc/ may import src/errors/ src/primitives/ src/config/',
  ])
  assert.match(
    findingsIn(t, { 'src/errors/fault.ts': 'export { head } from \'../http/head.ts\'\n' })[0] ?? '',
    /^src\/errors\/fault\.ts:1: imports src\/http\/head\.ts; .* may import nothing else of ours$/,
  )
  assert.match(
    findingsIn(t, {
      'src/proxy/late.ts': 'export const late = () => import(\'../server/server.ts\')\n', 'src/server/server.ts': '',
    })[0] ?? '',
    /^src\/proxy\/late\.ts:1: imports src\/server\/server\.ts;/,
  )
})

test('imports: a way that is shut is refused, types too, although the table has it open', t => {
  for (const { where, never } of CLOSED_WAYS) {
    for (const from of where) {
      for (const to of never) {
        const importer = `import type { wire } from '../../${to}wire.ts'\n`
        const [found = '', ...others] = findingsIn(t, { [`${to}wire.ts`]: 'export const wire = 1\n', [`${from}neutral.ts`]: importer })
        assert.deepEqual(others, [])
        assert.ok(found.startsWith(`${from}neutral.ts:1: imports ${to}wire.ts (type); ${where.join(' ')} serves every protocol`), found)
      }
    }
  }
  assert.deepEqual(
    findingsIn(t, { 'src/protocols/session.ts': 'export const a = 1\n', 'src/pool/pool.ts': `import '../protocols/session.ts'\n` }),
    [],
  )
})

test('imports: supervisor and workers do not know each other, and the supervisor knows no proxy core', t => {
  assert.match(
    findingsIn(t, { 'supervisor/main.ts': `${GUARD}import '../workers/main.ts'\n` })[0] ?? '',
    /^supervisor\/main\.ts:2: imports workers\/main\.ts/,
  )
  assert.match(
    findingsIn(t, { 'workers/main.ts': `${GUARD}import '../supervisor/main.ts'\n`, 'supervisor/main.ts': GUARD })[0] ?? '',
    /^workers\/main\.ts:2: imports supervisor\/main\.ts/,
  )
  assert.match(
    findingsIn(t, { 'supervisor/main.ts': `${GUARD}import type { exchange } from '../src/proxy/exchange.ts'\n` })[0] ?? '',
    /^supervisor\/main\.ts:2: imports src\/proxy\/exchange\.ts/,
  )
})

test('imports: the tracer\'s types are open to all, its values are not', t => {
  assert.deepEqual(
    findingsIn(t, { 'src/primitives/a.ts': 'import type { Tracer } from \'../telemetry/tracer.ts\'\nexport type A = Tracer\n' }),
    [],
  )
  assert.equal(
    findingsIn(t, { 'src/primitives/a.ts': 'import { nothing } from \'../telemetry/tracer.ts\'\nexport const a = nothing\n' }).length,
    1,
  )
})

test('imports: a cycle of values is found once, with its way round', t => {
  assert.deepEqual(findingsIn(t, {
    'src/http/a.ts': 'import { b } from \'./b.ts\'\nexport const a = () => b\n',
    'src/http/b.ts': '\nexport { c as b } from \'./c.ts\'\n',
    'src/http/c.ts': 'import { a } from \'./a.ts\'\nexport const c = a\n',
  }), [
    'src/http/a.ts:1: is part of an import cycle: src/http/a.ts -> src/http/b.ts -> src/http/c.ts -> src/http/a.ts; '
      + 'move what they share to a file that imports neither, or import the type alone',
  ])
  assert.match(
    findingsIn(t, { 'src/http/a.ts': 'import { a } from \'./a.ts\'\nexport { a as b }\n' })[0] ?? '',
    /cycle: src\/http\/a\.ts -> src\/http\/a\.ts;/,
  )
})

test('imports: a type-only cycle is no cycle, an inline type still is one', t => {
  const back = 'import type { A } from \'./a.ts\'\nexport type B = A\n'
  assert.deepEqual(findingsIn(t, { 'src/http/a.ts': 'import { type B } from \'./b.ts\'\nexport type A = B\n', 'src/http/b.ts': back }), [])
  assert.equal(
    findingsIn(t, {
      'src/http/a.ts': 'import { type B } from \'./b.ts\'\nexport type A = B\n',
      'src/http/b.ts': back.replace('import type { A }', 'import { type A }'),
    }).length,
    1,
  )
})

test('imports: vendors and built-ins are named where the table says', t => {
  assert.match(
    findingsIn(t, { 'src/proxy/log.ts': 'import prom from \'prom-client\'\nvoid prom\n' })[0] ?? '',
    /^src\/proxy\/log\.ts:1: imports the package prom-client; only src\/telemetry\/exporters\/ may name it$/,
  )
  assert.match(
    findingsIn(t, { 'src/http/x.ts': 'import x from \'left-pad/sub\'\nvoid x\n' })[0] ?? '',
    /imports the package left-pad; only create\/template\/ test\/ scripts\//,
  )
  assert.match(
    findingsIn(t, {
      'src/telemetry/exporters/s.ts': 'import x from \'@sentry/node\'\nvoid x\n',
      'src/http/s.ts': 'import x from \'@sentry/node\'\nvoid x\n',
    }).join(),
    /^src\/http\/s\.ts:1: imports the package @sentry\/node;[^,]*$/,
  )
  assert.match(
    findingsIn(t, { 'src/http/f.ts': 'const f = await import(\'node:ffi\')\nvoid f\n' })[0] ?? '',
    /^src\/http\/f\.ts:1: imports node:ffi; native calls live in/,
  )
  assert.match(
    findingsIn(t, { 'src/server/f.ts': 'import cluster from \'node:cluster\'\nvoid cluster\n' })[0] ?? '',
    /imports node:cluster/,
  )
  assert.match(
    findingsIn(t, { 'src/server/f.ts': 'import http from \'node:http\'\nvoid http\n' })[0] ?? '',
    /imports node:http; it costs every process 19 MB/,
  )
  for (const name of ['zlib', 'util']) {
    const [finding = ''] = findingsIn(t, { 'src/server/f.ts': `import all from 'node:${name}'\nvoid all\n` })
    assert.match(finding, new RegExp(`imports node:${name}; .* every process`))
  }
  assert.match(findingsIn(t, { 'src/http/f.ts': 'import fs from \'fs\'\nvoid fs\n' })[0] ?? '', /imports fs; write node:fs$/)
  assert.match(
    findingsIn(t, { 'src/ipc/f.ts': 'import net from \'node:net\'\nvoid net\n' })[0] ?? '',
    /^src\/ipc\/f\.ts:1: imports node:net; .* open no sockets/,
  )
  assert.deepEqual(findingsIn(t, { 'src/ipc/f.ts': 'import type net from \'node:net\'\nexport type F = net.Socket\n' }), [])
})

test('imports: the package\'s edge, missing files and unknown folders are named', t => {
  assert.match(
    findingsIn(t, { 'workers/main.ts': `${GUARD}import { exchange } from '../src/index.ts'\nvoid exchange\n` })[0] ?? '',
    /which is for the package's edge only/,
  )
  assert.match(
    findingsIn(t, { 'examples/app.ts': 'import \'../src/proxy/exchange.ts\'\n' })[0] ?? '',
    /^examples\/app\.ts:1: imports src\/proxy\/exchange\.ts; examples\/ may import nothing else of ours$/,
  )
  assert.match(
    findingsIn(t, { 'src/http/head.ts': 'import \'cirque\'\n' })[0] ?? '', /imports the package cirque; only examples\/ may name it$/,
  )
  assert.match(findingsIn(t, { 'src/http/head.ts': 'import \'./gone.js\'\n' })[0] ?? '', /imports \.\/gone\.js, which is no file/)
  assert.match(findingsIn(t, { 'src/misc/thing.ts': '' })[0] ?? '', /^src\/misc\/thing\.ts:1: stands in no row/)
})

test('imports: an entry point checks the runtime before anything else', t => {
  const text = 'does not import src/runtime-check.ts before everything else; let that be its first import'
  assert.deepEqual(
    findingsIn(t, { 'src/index.ts': 'export { exchange } from \'./proxy/exchange.ts\'\nimport \'./runtime-check.ts\'\n' }),
    [`src/index.ts:1: ${text}`],
  )
  assert.deepEqual(findingsIn(t, { 'supervisor/cli.ts': '' }), [`supervisor/cli.ts:1: ${text}`])
  assert.deepEqual(
    findingsIn(t, { 'supervisor/cli.ts': `import type { Head } from '../src/errors/fault.ts'\n${GUARD}export type A = Head\n` }),
    [],
  )
})

test('imports: comments, strings, templates and regular expressions hold no imports', t => {
  assert.deepEqual(findingsIn(t, {
    'src/http/head.ts': [
      '// import x from \'../proxy/exchange.ts\'', '/* ', 'import \'../proxy/exchange.ts\' */',
      'const a = "\\\nimport x from \'../proxy/exchange.ts\'"',
      'const b = `\nimport \'../proxy/exchange.ts\' ${`${1}\nimport \'../proxy/exchange.ts\'`}\n`',
      'const c = /[/"]import \'..\\/proxy\'/', 'const d = 4 / 2 / 1', 'export const all = [a, b, c, d]',
    ].join('\n'),
  }), [])
})

test('imports: breaking a copy of this repository is seen, and the exit code says so', t => {
  const root = temporaryFolder(t)
  for (const folder of ['src/errors', 'src/primitives']) cpSync(path.join(ROOT, folder), path.join(root, folder), { recursive: true })
  const script = path.join(ROOT, 'scripts/check-imports.ts')
  assert.equal(spawnSync(process.execPath, [script, root]).status, 0)
  writeTree(root, { 'src/errors/broken.ts': 'import \'../server/server.ts\'\n' })
  const { status, stderr } = spawnSync(process.execPath, [script, root], { encoding: 'utf8' })
  assert.equal(status, 1)
  assert.match(stderr, /^src\/errors\/broken\.ts:1: [^\n]+\n$/)
})
