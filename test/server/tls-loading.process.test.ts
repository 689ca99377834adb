import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { test } from 'node:test'

const INDEX = path.resolve(import.meta.dirname, '../../src/index.ts')

/** A server with one listener, and whether node:tls, which takes 8 MB, is loaded when it serves. */
function loadsTls(adding: string): boolean {
  const source = `
    import { httpProxyService, Server, SILENT_LOG } from ${JSON.stringify(INDEX)}
    const server = new Server()
    server.addService(httpProxyService({ newCtx() {}, upstreamPeer() { throw new Error('none') } }, { accessLog: null }).${adding})
    await server.start({ log: SILENT_LOG })
    console.log(process.moduleLoadList.includes('NativeModule tls'))
    await server.stop()
  `
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', source], { encoding: 'utf8', timeout: 30_000 })
  assert.match(stdout, /^(?:true|false)\n$/, stderr)
  return stdout === 'true\n'
}

test('TLS listener: a process without one does not load node:tls', () => {
  assert.equal(loadsTls("addTcp('127.0.0.1:0')"), false)
  assert.equal(loadsTls("addTls('127.0.0.1:0', { certificateFor: () => null })"), true)
})
