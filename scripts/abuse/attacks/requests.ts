/** Requests that cost more than they look. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { atRate, CLOSE, counters, dial, exchange, get, statusOf } from '../clients.ts'

const NAMES = 15_000
const FIELDS = Array.from({ length: 90 }, (_, at) => `x-field-${at}: ${at}\r\n`).join('')

/** One field line may have 16 KiB: two of them hold so many names. */
function namesFields(): string {
  const half = 'a,'.repeat(NAMES / 2 - 1)
  return `Connection: ${half}a\r\nConnection: ${half}close\r\n${FIELDS}`
}

export const connectionNames: Attack = {
  name: 'connection-names',
  title: `Connection with ${NAMES} names beside 90 fields, 150 requests a second, every third from the origin`,
  async strike({ port, seconds }) {
    const request = get('/small', namesFields())
    const fromOrigin = get('/names', CLOSE)
    const done = await atRate(150, seconds, (index) => void exchange(port, index % 3 === 0 ? fromOrigin : request))
    return { done: `${done} requests`, faults: [] }
  },
}

export const ampersands: Attack = {
  name: 'ampersands',
  title: 'queries of 8 kB that hold nothing but &, 300 a second, with the access log on',
  async strike({ port, seconds }) {
    const request = get(`/small?${'&'.repeat(8000)}`, CLOSE)
    const done = await atRate(300, seconds, () => void exchange(port, request))
    return { done: `${done} queries`, faults: [] }
  },
}

const DEPTH = 2400
const PIPES = 8

export const deepPipelines: Attack = {
  name: 'deep-pipelines',
  title: `${PIPES} connections that send ${DEPTH} requests at once and read nothing before`,
  async strike({ port, seconds }) {
    const bytes = Buffer.from(get('/small').repeat(DEPTH), 'latin1')
    const late = performance.now() + seconds * 1000
    let sent = 0
    await Promise.all(Array.from({ length: PIPES }, async () => {
      while (performance.now() < late) {
        sent++
        const socket = dial(port)
        socket.resume()
        socket.write(bytes)
        await delay(500)
        socket.destroy()
      }
    }))
    return { done: `${sent} pipelines`, faults: [] }
  },
}

export const h2cUpgrade: Attack = {
  name: 'h2c-upgrade',
  title: 'Upgrade: h2c to an origin that would agree',
  async strike({ port, originPort, seconds }) {
    let agreed = 0
    const fields = 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n'
    const before = await counters(originPort)
    const done = await atRate(20, seconds, () => {
      const socket = dial(port)
      socket.on('data', (chunk) => { if (statusOf(chunk.toString('latin1')) === 101) agreed++ })
      socket.write(get('/small', fields))
      setTimeout(() => socket.destroy(), 500)
    })
    await delay(600)
    const h2c = (await counters(originPort)).h2c - before.h2c
    const faults: string[] = []
    if (agreed > 0) faults.push(`${agreed} clients were let through to HTTP/2 frames`)
    if (h2c > 0) faults.push(`the origin saw Upgrade: h2c ${h2c} times`)
    return { done: `${done} requests`, faults }
  },
}

export const webSocketFin: Attack = {
  name: 'websocket-fin',
  title: 'WebSocket clients whose FIN comes before the 101, 40 a second',
  async strike({ port, seconds }) {
    const key = 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
    const fields = `Connection: Upgrade\r\nUpgrade: websocket\r\n${key}`
    const done = await atRate(40, seconds, () => {
      const socket = dial(port)
      socket.resume()
      socket.end(get('/ws?ms=300', fields))
    })
    return { done: `${done} clients`, faults: [] }
  },
}
