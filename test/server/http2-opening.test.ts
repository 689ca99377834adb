/** The first bytes of a connection without TLS say which version of HTTP its client speaks; none of them may be lost over that. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import { MemoryStream } from '../../src/protocols/memory-stream.ts'
import { HttpProxy } from '../../src/server/http-proxy-service.ts'
import { admit } from '../../src/server/listening-base.ts'
import { memoryTransport } from '../../src/server/memory-origin.ts'
import { within } from '../support/wait-for.ts'

/** Sends `pieces`, one at a time. @returns what the origin was asked for, and the bytes of the answer up to `length` */
async function ask(pieces: readonly string[], length: number): Promise<{ readonly asked: string[]; readonly answer: string }> {
  const ticker = new Ticker(), asked: string[] = []
  const transport = memoryTransport(({ head, body }) => {
    asked.push(`${head.method} ${head.target} ${body.toString('latin1')}`)
    return { body: 'ok' }
  }, ticker, 'origin')
  const peer = new HttpPeer('10.0.0.1:80')
  const service = new HttpProxy({ upstreamPeer: () => peer }, { accessLog: null, connector: new HttpConnector({ ticker, transport }) })
  service.addTcp('127.0.0.1:0')
  await service.start()
  const [near, far] = MemoryStream.pair('client')
  const { promise, resolve } = Promise.withResolvers<void>()
  let answer = ''
  near.owner = {
    onBytes(buffer, from, to) {
      answer += buffer.latin1Slice(from, to)
      if (answer.length >= length) resolve()
    },
    onEnd() { resolve() }, onDrained() {}, onClosed() { resolve() },
  }
  admit(service, far, service.listeners[0]!.name)
  for (const piece of pieces) {
    near.writeText(piece)
    near.flush()
    await new Promise(setImmediate)
  }
  await within('the answer', promise)
  service.close()
  return { asked, answer }
}

test('http/2 opening: a request that begins like it arrives whole, however its bytes come', async () => {
  for (const method of ['GET', 'PUT', 'PATCH', 'PRIME', 'PRI']) {
    // `PRI * HTTP/2.0` itself is no request; with another target it is one like any other.
    const text = `${method} /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc`
    for (let split = 1; split < 20; split++) {
      const { asked } = await ask([text.slice(0, split), text.slice(split)], 15)
      assert.deepEqual(asked, [`${method} /a abc`], `${method} split at ${split}`)
    }
    const { asked } = await ask([...text], 15)
    assert.deepEqual(asked, [`${method} /a abc`], `${method} byte by byte`)
  }
})

test('http/2 opening: at every split it is answered with the settings of HTTP/2', async () => {
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', settings = '\0\0\0\x04\0\0\0\0\0'
  for (let split = 1; split < preface.length; split++) {
    const { answer } = await ask([preface.slice(0, split), preface.slice(split) + settings], 9)
    assert.equal(answer.charCodeAt(3), 4, `split at ${split}`)
  }
})
