/** The table of other proxies' names beside what those proxies themselves show, where they are installed. */
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { COMPAT_NAMES, type CompatRow } from '../../supervisor/compat-names.ts'
import { requireProgram, type Program } from '../support/programs.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

/** By name: its kind, and the labels of its first series. */
type Shown = ReadonlyMap<string, { readonly kind: string; readonly labels: readonly string[] }>

function request(socketPath: string, target: string): Promise<string> {
  return new Promise((resolve, reject) => {
    http.get({ socketPath, path: target, agent: false, headers: { host: 'localhost' } }, response => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => { text += chunk }).on('end', () => { resolve(text) })
    }).on('error', reject)
  })
}

function shownIn(text: string): Shown {
  const kinds = new Map([...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name = '', kind = '']) => [name, kind]))
  const shown = new Map<string, { kind: string; labels: string[] }>()
  for (const [, name = '', selector = ''] of text.matchAll(/^(\w+)(?:\{(.*)\})? \S+$/gm)) {
    const family = kinds.has(name) ? name : name.replace(/_(bucket|sum|count)$/, '')
    if (shown.has(family)) continue
    const labels = [...selector.matchAll(/(\w+)="/g)].map(([, label = '']) => label).filter(label => label !== 'le')
    shown.set(family, { kind: kinds.get(family) ?? '', labels })
  }
  return shown
}

/** Starts it in a folder that is its own, and ends it with the test. */
function start(t: TestContext, program: string, args: readonly string[], cwd: string): ChildProcess {
  const child = spawn(program, args, { cwd, stdio: 'ignore', env: { ...process.env, HOME: cwd, XDG_DATA_HOME: cwd, XDG_CONFIG_HOME: cwd } })
  t.after(() => new Promise<void>(resolve => {
    child.once('exit', () => { resolve() })
    if (child.exitCode !== null || !child.kill('SIGKILL')) resolve()
  }))
  return child
}

async function compare(t: TestContext, name: Program & keyof typeof COMPAT_NAMES, shown: () => Promise<Shown>): Promise<void> {
  const rows: readonly CompatRow[] = COMPAT_NAMES[name]
  let seen: Shown = new Map()
  const all = async (): Promise<boolean> => {
    seen = await shown().catch((): Shown => new Map())
    return rows.every(row => seen.has(row.name))
  }
  const missing = (): string[] => rows.filter(row => !seen.has(row.name)).map(row => row.name)
  await waitFor(`${name} to show all names`, all, { deadlineMs: 20_000, seen: missing })
  for (const { name: family, kind, labels } of rows) {
    const theirs = seen.get(family)!
    assert.equal(kind, theirs.kind, family)
    assert.deepEqual(labels.filter(label => !theirs.labels.includes(label)), [], `${family} has ${theirs.labels.join(', ')} there`)
  }
  t.diagnostic(`${name}: ${new Set(rows.map(row => row.name)).size} of its ${seen.size} families`)
}

test('compat names: HAProxy itself has these names, kinds and labels', async t => {
  const program = requireProgram(t, 'haproxy')
  if (program === null) return
  const folder = temporaryFolder(t), socket = path.join(folder, 'stats.sock')
  fs.writeFileSync(path.join(folder, 'haproxy.cfg'), [
    'defaults', '  mode http', '  timeout connect 1s', '  timeout client 5s', '  timeout server 5s',
    'frontend web', `  bind unix@${path.join(folder, 'web.sock')}`, '  default_backend api',
    'frontend stats', `  bind unix@${socket}`, '  http-request use-service prometheus-exporter',
    'backend api', `  server one unix@${path.join(folder, 'origin.sock')}`, '',
  ].join('\n'))
  start(t, program, ['-db', '-f', 'haproxy.cfg'], folder)
  await compare(t, 'haproxy', async () => shownIn(await request(socket, '/metrics')))
})

test('compat names: Caddy itself has these names, kinds and labels', async t => {
  const program = requireProgram(t, 'caddy')
  if (program === null) return
  const folder = temporaryFolder(t), admin = path.join(folder, 'admin.sock'), web = path.join(folder, 'web.sock')
  const origin = path.join(folder, 'origin.sock')
  fs.writeFileSync(path.join(folder, 'Caddyfile'), [
    '{', `  admin unix/${admin} {`, '    origins localhost', '  }', '  auto_https off', '  servers {', '    metrics', '  }', '}',
    'http://localhost {', `  bind unix/${web}`, `  reverse_proxy /broken unix/${path.join(folder, 'nobody.sock')}`,
    `  reverse_proxy unix/${origin}`, '}',
    'http://localhost:81 {', `  bind unix/${origin}`, '  respond ok', '}', '',
  ].join('\n'))
  start(t, program, ['run', '--config', 'Caddyfile'], folder)
  await compare(t, 'caddy', async () => {
    // Errors are shown once there is one.
    for (const target of ['/', '/broken']) await request(web, target)
    return shownIn(await request(admin, '/metrics'))
  })
})
