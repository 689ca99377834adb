/** What clients cause is no error line, and no line tears another. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { atRate, CLOSE, exchange, get } from '../clients.ts'

/** Fields by which proxies recognise themselves; an origin that shows them has told a client. */
const LOOP_FIELDS = ['via', 'cdn-loop', 'cirque-loop']
const ESCAPES = '\u00ff'.repeat(2000)

export const logFloods: Attack = {
  name: 'log-floods',
  title: 'requests that are loops or look like them, bad requests, and fields that grow when they are escaped, 600 a second',
  async strike({ port, folder, seconds }) {
    const shown = await exchange(port, get('/fields', CLOSE))
    const fields = JSON.parse(shown.slice(shown.indexOf('\r\n\r\n') + 4)) as Record<string, string>
    const loops = LOOP_FIELDS.filter((name) => fields[name] !== undefined).map((name) => `${name}: ${fields[name]}\r\n`)
    const kinds = [
      ...['Via: 1.1 cirque\r\n', ...loops].map((field) => get('/small', `${field}${CLOSE}`)),
      'GET / HTTP/9.9\r\n\r\n', get('/reset-head', CLOSE),
      get(`/small?${'%22'.repeat(600)}`, `User-Agent: ${ESCAPES}\r\nReferer: ${ESCAPES}\r\n${CLOSE}`),
    ]
    const done = await atRate(600, seconds, (index) => void exchange(port, Buffer.from(kinds[index % kinds.length] ?? '', 'latin1')))
    await delay(500)
    const lines = readFileSync(path.join(folder, 'access.log'), 'latin1').split('\n').slice(0, -1)
    const torn = lines.filter((line) => !isJson(line)).length
    return { done: `${done} requests`, faults: torn === 0 ? [] : [`${torn} of ${lines.length} lines of the access log are torn`] }
  },
}

function isJson(line: string): boolean {
  try {
    return typeof JSON.parse(line) === 'object'
  } catch {
    return false
  }
}
