/** How connections over TLS end: with close_notify, so that what came is known to be all. */
import assert from 'node:assert/strict'
import test from 'node:test'
import tls from 'node:tls'
import type { Session } from '../../src/index.ts'
import { dialTcp, type TcpStream } from '../../src/protocols/tcp/tcp-stream.ts'
import { connectTls } from '../../src/protocols/tls/tls-stream.ts'
import { makeTestCa } from '../support/test-ca.ts'
import { TlsProxy } from '../support/tls-proxy.ts'
import { Collector, SILENT } from '../support/tls-sides.ts'
import { within } from '../support/wait-for.ts'

const CA = makeTestCa()
const certificates = [CA.issue({ names: ['a.test'] })]

/** Not within the call that brings the request: then the end is another one. */
async function answerLater(session: Session): Promise<'responded'> {
  await new Promise(setImmediate)
  return session.respond(200, {}, 'all of it')
}

/** One request. @returns what came, as words: `end` is an end that was said, its lack an error */
async function ask({ port }: TlsProxy, request: string): Promise<Collector> {
  const owner = new Collector()
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const fail = (error: Error | null): void => reject(error ?? new Error('closed'))
  const tcp: TcpStream = dialTcp({ address: { kind: 'tcp', host: '127.0.0.1', port } }, {
    ...SILENT,
    onConnected() {
      connectTls(tcp, null, 'a.test', { secureContext: tls.createSecureContext({ ca: CA.cert }) }, {
        onSecure(stream) {
          stream.owner = owner
          owner.stream = stream
          resolve()
        },
        onHandshakeFailed: fail,
      }).startClient()
    },
    onClosed: fail,
  })
  await within('the handshake', promise)
  owner.stream.writeText(request)
  await within('the end', Promise.race([owner.ended.promise, owner.closed.promise]))
  owner.stream.destroy()
  return owner
}

for (const [title, request, status] of [
  ['an answer behind which the client wants no other', 'GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n', 200],
  ['an answer to HTTP/1.0', 'GET / HTTP/1.0\r\nHost: a.test\r\n\r\n', 200],
  ['a refusal', 'GET / HTTP/1.1\r\n\r\n', 400],
] as const) {
  test(`tls end: behind ${title} close_notify says that it was all`, async t => {
    const proxy = await TlsProxy.start(t, { certificates }, { hooks: { requestFilter: answerLater } })
    const { text, events } = await ask(proxy, request)
    assert.match(text, new RegExp(`^HTTP/1\\.1 ${status} `))
    assert.equal(events[0], 'end')
  })
}
