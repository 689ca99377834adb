import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { test } from 'node:test'
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import tls from 'node:tls'
import { SupervisedApp } from '../support/supervised-app.ts'

const ROOT = path.join(import.meta.dirname, '../..')

test('examples: the load balancer loads, and describes its listeners without binding them', () => {
  const { status, stdout, stderr } = spawnSync(
    path.join(ROOT, 'bin/cirque'),
    ['validate', 'examples/load-balancer.ts', '--json'],
    { cwd: ROOT, encoding: 'utf8' },
  )
  assert.equal(status, 0, stderr)
  const { description } = JSON.parse(stdout) as {
    description: { listeners: { canonical: string }[]; services: { name: string; dependsOn: string[] }[] }
  }
  assert.deepEqual(description.listeners.map(({ canonical }) => canonical), ['127.0.0.1:6188', '127.0.0.1:6189'])
  assert.deepEqual(description.services.map(({ name, dependsOn }) => [name, dependsOn]), [
    ['demo-origins', []], ['own-certificate', []], ['http-proxy', ['demo-origins', 'own-certificate']],
  ])
})

/** The first line of an answer over https. */
function askSecurely([host, port]: readonly string[], ca: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ port: Number(port), host: host!, servername: 'localhost', ca })
    let text = ''
    socket.setEncoding('latin1')
    socket.on('secureConnect', () => socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'))
    socket.on('data', chunk => { text += String(chunk) })
    socket.on('error', reject)
    socket.on('close', () => resolve(/\r\n\r\n(.*)\n/.exec(text)?.[1] ?? text))
  })
}

test('examples: the load balancer speaks https with a certificate of its own authority, which the next start has as well', async t => {
  const options = { file: path.join(ROOT, 'examples/load-balancer.ts'), args: ['127.0.0.1:0', '127.0.0.2:0'] }
  const serve = async (folder: string | null): Promise<{ app: SupervisedApp; authority: string }> => {
    const app = await SupervisedApp.start(t, folder === null ? options : { ...options, folder })
    const running = app.lines.find(({ msg }) => msg === 'running') as unknown as { authority: string; listeners: string[] }
    const authority = readFileSync(running.authority, 'latin1')
    assert.match(await askSecurely(running.listeners[1]!.split(':'), authority), /^Hello from origin (left|right), /)
    return { app, authority }
  }
  const first = await serve(null)
  first.app.signal('SIGTERM')
  await first.app.end()
  const second = await serve(first.app.folder)
  assert.equal(new X509Certificate(second.authority).fingerprint256, new X509Certificate(first.authority).fingerprint256)
})
