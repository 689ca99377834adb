import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import type { OpenLoopResult } from '../../scripts/bench/open-loop.ts'
import { OpenLoopSchedule } from '../../scripts/bench/open-loop-schedule.ts'

const CLIENT = path.join(import.meta.dirname, '../../scripts/bench/open-loop.ts')

/** Answers the n-th request that arrives (from 0) when `answer` says so. */
async function startServer(t: TestContext, answer: (socket: net.Socket, index: number) => void): Promise<number> {
  let index = 0
  const server = net.createServer((socket) => {
    socket.on('error', () => {}) // The client closes in the middle of things.
    socket.on('data', (chunk) => {
      const requests = chunk.toString('latin1').split('\r\n\r\n').length - 1
      for (let i = 0; i < requests; i++) answer(socket, index++)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  return (server.address() as net.AddressInfo).port
}

async function runClient(port: number, rate: number): Promise<OpenLoopResult> {
  const args = [CLIENT, `--port=${port}`, '--path=/', '--bytes=2', '--connections=4', `--rate=${rate}`, '--seconds=1']
  const { stdout } = await promisify(execFile)(process.execPath, args)
  return JSON.parse(stdout) as OpenLoopResult
}

test('bench open loop: arrivals stay where the schedule put them, however late the ones before were sent', () => {
  const schedule = new OpenLoopSchedule(1000, 200, 2)
  assert.equal(schedule.total, 400)
  assert.equal(schedule.isDue(999), false)
  assert.equal(schedule.isDue(1000), true)
  assert.equal(schedule.dueAt(schedule.take()), 1000)
  assert.equal(schedule.isDue(1004), false)
  // A stall: three were due meanwhile, each at its own time.
  const due: number[] = []
  while (schedule.isDue(1016)) due.push(schedule.dueAt(schedule.take()))
  assert.deepEqual(due, [1005, 1010, 1015])
})

test('bench open loop: nothing is due behind the last arrival', () => {
  const schedule = new OpenLoopSchedule(0, 10, 0.2)
  schedule.take()
  schedule.take()
  assert.equal(schedule.isDue(1e9), false)
})

test('bench open loop: every request that was due during a stall pays for it', async (t) => {
  const STALL_MS = 300
  let stalledUntil = 0
  const port = await startServer(t, (socket, index) => {
    // The first 200 are the warming up; the stall lies in the measured second.
    if (index === 250) stalledUntil = performance.now() + STALL_MS
    const wait = stalledUntil - performance.now()
    const send = (): void => { socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok') }
    if (wait > 0) setTimeout(send, wait)
    else send()
  })
  const result = await runClient(port, 200)
  assert.equal(result.answered, 200)
  assert.equal(result.failed, 0)
  // Four connections: a closed loop would have seen four slow answers of 200, and a quick p90.
  assert.ok(result.p90Micros > 100_000, `p90 is ${result.p90Micros} us`)
  assert.ok(result.maxMicros > (STALL_MS - 5) * 1000, `max is ${result.maxMicros} us`)
})

test('bench open loop: answers that come in pieces count once, wrong ones and lost connections are failures', async (t) => {
  const port = await startServer(t, (socket, index) => {
    if (index < 100) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    else if (index % 20 === 5) socket.end('HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno')
    else if (index % 20 === 15) socket.destroy()
    else {
      socket.setNoDelay(true)
      socket.write('HTTP/1.1 200 OK\r\nContent-Le')
      setTimeout(() => socket.write('ngth: 2\r\n\r\no'), 3)
      setTimeout(() => socket.write('k'), 6)
    }
  })
  const result = await runClient(port, 100)
  assert.equal(result.answered + result.failed, 100)
  assert.ok(result.failed >= 8 && result.failed <= 12, `${result.failed} failed`)
  assert.ok(result.p50Micros > 4000, `p50 is ${result.p50Micros} us`)
})
