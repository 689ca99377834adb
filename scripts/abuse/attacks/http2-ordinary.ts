/**
 * No attack: what browsers, clients of gRPC and slow readers do, faster than they do it. Pages are left before they are whole, with
 * RST_STREAM for the rest; messages of a few bytes come with PING between them; downloads are read at 2 kB/s each. No limit may be passed.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { Flag, FrameType } from '../../../src/protocols/http2/frames.ts'
import type { Attack } from '../attack.ts'
import { ask, frame, Http2Attacker, limitsPassed, post, reset, windowUpdate } from '../http2-attacker.ts'

const BROWSERS = 3
/** Of a page, and how many of them are there when it is left. */
const REQUESTS = 40
const WAITED_FOR = 20
const PAGE_MS = 300
const PAGE_MAX_MS = 5000

const CALLERS = 2
const MESSAGES = 50
const MESSAGE_MS = 20
const MESSAGES_A_PING = 5

const DOWNLOADS = 10
const READ_MS = 500
const READ_BYTES = 1000

async function browse(client: Http2Attacker, until: number): Promise<number> {
  let next = 1, pages = 0
  for (; performance.now() < until && !client.over; pages++) {
    const streams = Array.from({ length: REQUESTS }, (_, at) => next + at * 2), before = client.ended
    next += REQUESTS * 2
    client.send(Buffer.concat(streams.map(stream => ask(stream, '/small'))))
    await client.until(() => client.over || client.ended >= before + WAITED_FOR, PAGE_MAX_MS)
    // Answers that it has not looked at yet are reset as well.
    client.send(Buffer.concat(streams.slice(WAITED_FOR).map(stream => reset(stream))))
    await delay(PAGE_MS)
  }
  return pages
}

async function call(client: Http2Attacker, until: number): Promise<number> {
  let calls = 0
  for (; performance.now() < until && !client.over; calls++) {
    const stream = calls * 2 + 1
    client.send(post(stream, '/upload'))
    for (let message = 0; message < MESSAGES; message++) {
      client.send(frame(FrameType.Data, 0, stream, '0000000000'))
      if (message % MESSAGES_A_PING === 0) client.send(frame(FrameType.Ping, 0, 0, '0011223344556677'))
      await delay(MESSAGE_MS)
    }
    client.send(frame(FrameType.Data, Flag.EndStream, stream))
  }
  return calls
}

async function download(client: Http2Attacker, until: number): Promise<void> {
  const streams = Array.from({ length: DOWNLOADS }, (_, at) => at * 2 + 1)
  client.send(Buffer.concat(streams.map(stream => ask(stream, '/endless'))))
  while (performance.now() < until && !client.over) {
    client.send(Buffer.concat(streams.map(stream => windowUpdate(stream, READ_BYTES))))
    await delay(READ_MS)
  }
  client.send(Buffer.concat(streams.map(stream => reset(stream))))
}

export const http2Ordinary: Attack = {
  name: 'http2-ordinary',
  title: 'no attack: pages that are left early, messages with PING between them, slow readers',
  bounds: { growthMB: 64 },
  // The rate of a reader is looked at over 30 s.
  secondsMin: 35,
  async strike({ port, seconds, adminPort }) {
    const until = performance.now() + seconds * 1000, faults: string[] = [], clients: Http2Attacker[] = []
    for (let count = 0; count <= BROWSERS + CALLERS; count++) {
      const client = await Http2Attacker.open(port, count === BROWSERS + CALLERS ? READ_BYTES : -1)
      if (client === null) return { done: 'nothing', faults: ['a connection was refused'] }
      clients.push(client)
    }
    const [pages, calls] = await Promise.all([
      Promise.all(clients.slice(0, BROWSERS).map(client => browse(client, until))),
      Promise.all(clients.slice(BROWSERS, -1).map(client => call(client, until))),
      download(clients.at(-1)!, until),
    ])
    for (const client of clients) {
      if (client.over) faults.push(`a connection was cut, with ${client.goAwayCode}`)
      for (const [code, count] of client.resets) if (code !== 0) faults.push(`${count} streams were reset with ${code}`)
      client.socket.destroy()
    }
    for (const [limit, count] of await limitsPassed(adminPort)) faults.push(`${limit} was passed ${count} times`)
    const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0)
    return { done: `${sum(pages)} pages, ${sum(calls)} calls, ${clients.at(-1)!.dataBytes} bytes of downloads`, faults }
  },
}
