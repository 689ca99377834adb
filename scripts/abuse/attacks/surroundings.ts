/** What is around the process: logs, folders, the admin listener. */
import { readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { atRate, CLOSE, dial, dialMany, exchange, get, statusOf } from '../clients.ts'

export const stateFolderRemoved: Attack = {
  name: 'state-folder-removed',
  title: 'a cleaner removes the state folder, then both workers die',
  secondsMin: 10,
  bounds: { times: Number.POSITIVE_INFINITY, longestMs: 3000, workersEnded: 2, unserved: 6 },
  async strike({ stateDir, workerPids, seconds }) {
    rmSync(stateDir, { recursive: true, force: true })
    await delay(500)
    for (const pid of workerPids) process.kill(pid, 'SIGKILL')
    await delay(seconds * 1000)
    return { done: `${workerPids.length} workers killed`, faults: [] }
  },
}

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

export const adminFlood: Attack = {
  name: 'admin-flood',
  title: '64 idle connections to the admin listener, which is asked for /readyz meanwhile',
  async strike({ adminPort, seconds }) {
    const idle = await dialMany(adminPort, 64, (socket) => void socket.resume())
    const half = dial(adminPort)
    half.write('GET /readyz HTTP/1.1\r\n')
    let ready = 0
    let asked = 0
    const done = await atRate(10, seconds, () => void exchange(adminPort, get('/readyz', CLOSE)).then((answer) => {
      asked++
      if (statusOf(answer) === 200) ready++
    }))
    for (let waits = 0; waits < 100 && asked < done; waits++) await delay(100)
    for (const socket of [...idle, half]) socket.destroy()
    return { done: `${done} questions`, faults: ready === done ? [] : [`/readyz was answered ${ready} times of ${done}`] }
  },
}
