/** The combined form beside the one that nginx writes of the same requests. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { AccessLog } from '../../../src/telemetry/exporters/access-log.ts'
import { startNginx } from '../../support/nginx-site.ts'
import { requireProgram } from '../../support/programs.ts'
import { startProxy } from '../../support/proxy.ts'
import { RawClient } from '../../support/raw-client.ts'
import { answer, response } from '../../support/scripted-origin.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { waitFor } from '../../support/wait-for.ts'

const CONF = `events {}
http {
access_log /log/access.log combined;
server {
  listen 127.0.0.1:6188;
  location / { return 200 "hello"; }
}
}
`

/** Every byte that a field may have. */
const BYTES = Array.from({ length: 256 }, (_, byte) => byte).filter(byte => byte >= 0x20 && byte !== 0x7F || byte === 0x09)
const ALL = String.fromCharCode(...BYTES).trim()

const REQUESTS: readonly string[] = [
  'GET / HTTP/1.1\r\nHost: a.example\r\n\r\n',
  'GET /a%20b?x=1&y=%22 HTTP/1.1\r\nHost: a.example\r\nUser-Agent: curl/8.5.0\r\nReferer: https://a.example/?q=1\r\n\r\n',
  `GET /a HTTP/1.1\r\nHost: a.example\r\nUser-Agent: ${ALL}\r\nReferer: x${ALL}\r\n\r\n`,
  'HEAD /a?b HTTP/1.1\r\nHost: a.example\r\nUser-Agent: " "" \\" [x] - -\r\n\r\n',
  'GET /%C3%A9%ff HTTP/1.1\r\nHost: a.example\r\n\r\n',
  'GET /old HTTP/1.0\r\nHost: a.example\r\n\r\n',
]

test('access log: combined is what nginx writes of the same requests, byte for byte but for the time', async t => {
  const program = requireProgram(t, 'nginx')
  if (program === null) return
  const folder = temporaryFolder(t), [ours, theirs] = [path.join(folder, 'ours.log'), path.join(folder, 'theirs.log')]
  const accessLog = new AccessLog({ file: ours }, { format: 'combined', collectMs: 0 })
  const proxy = await startProxy(t, { script: answer(response(200, 'hello')), service: { accessLog } })
  const port = await startNginx(t, program, CONF, { '/log/access.log': theirs })
  const ask = async (to: number, request: string): Promise<number> => {
    const client = await RawClient.connect({ host: '127.0.0.1', port: to })
    try {
      await client.write(Buffer.from(request, 'latin1'))
      return (await client.readResponse({ method: request.slice(0, request.indexOf(' ')) })).status
    } finally { client.destroy() }
  }
  for (const request of REQUESTS) {
    assert.deepEqual([await ask(proxy.port, request), await ask(port, request)], [200, 200], JSON.stringify(request.slice(0, 60)))
  }
  const linesOf = (file: string): string[] => {
    const text = existsSync(file) ? readFileSync(file, 'latin1') : ''
    return text.split('\n').slice(0, -1)
  }
  await waitFor('all lines', () => [ours, theirs].every(file => linesOf(file).length === REQUESTS.length), {
    seen: () => [linesOf(ours), linesOf(theirs)],
  })
  const time = /\[(\d\d\/[A-Z][a-z]{2}\/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\]/
  const timeless = (file: string): string[] => linesOf(file).map(line => line.replace(time, '[time]'))
  assert.deepEqual(timeless(ours), timeless(theirs))
  for (const line of linesOf(ours)) assert.match(line, time)
  await accessLog.close()
})
