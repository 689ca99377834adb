import assert from 'node:assert/strict'
import { Duplex, duplexPair } from 'node:stream'
import test from 'node:test'
import { Channel, ChannelError } from '../../src/ipc/channel.ts'
import type { Question } from '../../src/ipc/channel.ts'
import { decodeFromOperator, decodeNothing } from '../../src/ipc/messages.ts'
import type { FromOperator } from '../../src/ipc/messages.ts'
import { within } from '../support/wait-for.ts'

interface Heard { messages: FromOperator[]; questions: (Question | null)[]; ignored: string[]; closed: string[] }

/** An operator's end, the supervisor's end, and raw access to what the supervisor's end reads. */
function pair(maxMessageBytes = 1024): {
  client: Channel<FromOperator, never>
  heard: Heard
  clientClosed: string[]
  toServer: Duplex
  fromServer: Duplex
  server: Channel<never, FromOperator>
} {
  const [toServer, fromServer] = duplexPair()
  const heard: Heard = { messages: [], questions: [], ignored: [], closed: [] }
  const clientClosed: string[] = []
  const server = new Channel<never, FromOperator>(fromServer, decodeFromOperator, { maxMessageBytes }, {
    onMessage: (message, question) => { heard.messages.push(message); heard.questions.push(question) },
    onClose: reason => { heard.closed.push(reason) },
    onIgnored: (tag, why) => { heard.ignored.push(`${tag} ${why}`) },
  })
  const client = new Channel<FromOperator, never>(toServer, decodeNothing, { maxMessageBytes }, {
    onMessage() {}, onClose: reason => { clientClosed.push(reason) },
  })
  return { client, heard, clientClosed, toServer, fromServer, server }
}

const turn = (): Promise<void> => new Promise(resolve => { setImmediate(() => setImmediate(resolve)) })

test('channel: a question is answered once, with its result or its refusal', async () => {
  const { client, heard } = pair()
  const status = client.ask({ tag: 'status' }, 1_000)
  const stop = client.ask({ tag: 'stop', force: false, wait: true }, 1_000)
  await turn()
  assert.deepEqual(heard.messages.map(message => message.tag), ['status', 'stop'])
  heard.questions[1]!.refuse('refused', 'not now')
  heard.questions[0]!.ok({ up: 1 })
  heard.questions[0]!.ok({ up: 2 })
  assert.deepEqual(await status, { up: 1 })
  await assert.rejects(stop, (error: unknown) => error instanceof ChannelError && error.code === 'refused' && error.message === 'not now')
})

test('channel: a line may arrive in any pieces', async () => {
  const line = Buffer.from(`${JSON.stringify({ tag: 'restart-workers', worker: 'ä€', wait: true })}\n{"tag":"status"}\n`)
  for (let at = 1; at < line.length; at++) {
    const { toServer, heard } = pair()
    toServer.write(line.subarray(0, at))
    await turn()
    toServer.write(line.subarray(at))
    await turn()
    assert.deepEqual(
      heard.messages.map(message => ({ ...message })),
      [{ tag: 'restart-workers', worker: 'ä€', wait: true }, { tag: 'status' }],
      `split at ${at}`,
    )
  }
})

test('channel: what another build would say is reported, answered when asked, and goes no further', async () => {
  const { toServer, fromServer, heard } = pair()
  toServer.write('{"tag":"teleport","ask":4}\n{"tag":"restart-workers","worker":7,"ask":5}\n{"tag":"status","extra":1}\n')
  await turn()
  assert.deepEqual(heard.ignored, ['teleport unknown', 'restart-workers bad'])
  assert.deepEqual(heard.messages.map(message => message.tag), ['status'])
  void fromServer
})

test('channel: no answer in time, and an end before the answer, are two different faults', async () => {
  const { client, toServer, fromServer } = pair()
  await assert.rejects(client.ask({ tag: 'status' }, 5), (error: unknown) => error instanceof ChannelError && error.code === 'timeout')
  const open = client.ask({ tag: 'status' }, null)
  fromServer.end()
  await assert.rejects(within('the end', open), (error: unknown) => error instanceof ChannelError && error.code === 'closed')
  await assert.rejects(client.ask({ tag: 'status' }, null), (error: unknown) => error instanceof ChannelError && error.code === 'closed')
  assert.equal(client.pendingQuestions, 0)
  void toServer
})

for (const [what, bytes, reason] of [
  ['a line that is too long', `${'x'.repeat(1025)}\n`, /longer than 1024/],
  ['a line that never ends', 'x'.repeat(2_000), /longer than 1024/],
  ['bytes that are no JSON', 'GET / HTTP/1.1\n', /not JSON/],
  ['JSON that is no object', '[1]\n', /not a JSON object/],
] as const) {
  test(`channel: ${what} ends it`, async () => {
    const { toServer, heard, server } = pair()
    toServer.write(bytes)
    await turn()
    assert.equal(heard.closed.length, 1)
    assert.match(heard.closed[0]!, reason)
    assert.equal(server.open, false)
  })
}

test('channel: a peer that does not read is cut instead of being kept messages for', () => {
  const { promise, resolve } = Promise.withResolvers<string>()
  const stuck = new Duplex({ read() {}, write(_chunk, _encoding, _callback) { /* Never done. */ } })
  const channel = new Channel<FromOperator, never>(stuck, decodeNothing, { maxMessageBytes: 1024 }, { onMessage() {}, onClose: resolve })
  let sent = 0
  while (channel.send({ tag: 'restart-workers', worker: 'x'.repeat(100), wait: false }) && sent < 1_000) sent++
  assert.ok(sent < 30)
  return promise.then(reason => assert.match(reason, /does not read/))
})
