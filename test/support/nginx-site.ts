/**
 * A running nginx with a configuration that others would put into /etc/nginx: what it names of the machine (ports, logs, files) is
 * replaced by what the test has.
 */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import type { TestContext } from 'node:test'
import { temporaryFolder } from './temporary-folder.ts'
import { waitFor } from './wait-for.ts'

/** Where nginx keeps bodies for a while, by the names of its directives. */
const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']

/**
 * Starts it in one process; it ends with `t`. `nginx -t` has to find it sound first.
 * @param text a whole configuration with one `listen` address, `127.0.0.1:6188`
 * @param replaced what stands in it, by what it stands for here
 * @returns the port
 */
export async function startNginx(
  t: TestContext, program: string, text: string, replaced: Readonly<Record<string, string>>,
): Promise<number> {
  const folder = temporaryFolder(t)
  mkdirSync(path.join(folder, 'logs'))
  const port = await freePort()
  let written = text.replaceAll('127.0.0.1:6188', `127.0.0.1:${port}`)
  for (const [from, to] of Object.entries(replaced)) {
    assert.ok(written.includes(from), `the configuration has ${from}`)
    written = written.replaceAll(from, to)
  }
  const own = TEMPORARY.map(name => `${name}_temp_path ${folder}/${name};`).join(' ')
  const file = path.join(folder, 'nginx.conf')
  writeFileSync(file, `pid ${folder}/pid;\n${written.replace(/^http \{$/m, `http {\n${own}`)}`)
  const args = ['-p', folder, '-e', path.join(folder, 'error.log'), '-c', file]
  const { status, stderr } = spawnSync(program, ['-t', ...args], { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  const child = spawn(program, [...args, '-g', 'daemon off; master_process off;'], { stdio: ['ignore', 'ignore', 'ignore'] })
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGTERM')
    await once(child, 'exit')
  })
  await waitFor('nginx to listen', () => {
    assert.equal(child.exitCode, null, 'nginx ended')
    return listensAt(port)
  })
  return port
}

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

function listensAt(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = net.connect(port, '127.0.0.1')
  socket.once('connect', () => {
    socket.destroy()
    resolve(true)
  })
  socket.once('error', () => resolve(false))
  return promise
}
