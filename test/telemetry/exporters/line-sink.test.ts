import assert from 'node:assert/strict'
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync, constants, existsSync, fstatSync, openSync, readFileSync, readSync, renameSync, statSync, writeFileSync,
} from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { LineSink } from '../../../src/telemetry/exporters/line-sink.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'

const MODULE = path.join(import.meta.dirname, '../../../src/telemetry/exporters/line-sink.ts')

/** Runs `code` as a program of its own with LineSink at hand; its stdout is a pipe. */
function program(t: TestContext, code: string, stdout: 'pipe' | number = 'pipe'): ChildProcess {
  const file = path.join(temporaryFolder(t), 'program.mjs')
  writeFileSync(file, `import { LineSink } from ${JSON.stringify(MODULE)}\n${code}\n`)
  const child = spawn(process.execPath, [file], { stdio: ['ignore', stdout, 'pipe', 'ipc'] })
  t.after(() => child.kill('SIGKILL'))
  return child
}

test('line sink: lines reach the file in order, across pieces', async t => {
  const file = path.join(temporaryFolder(t), 'new/folder/out.log')
  const sink = new LineSink({ file })
  const lines = Array.from({ length: 5000 }, (_, index) => `line ${index}\n`)
  for (const line of lines) assert.equal(sink.write(line), true)
  await sink.close()
  assert.equal(readFileSync(file, 'utf8'), lines.join(''))
  assert.equal(statSync(file).mode & 0o777, 0o640 & ~process.umask())
  assert.deepEqual([sink.queued, sink.dropped, sink.faults], [0, 0, 0])
})

test('line sink: an existing file is appended to, and lines after close are dropped', async t => {
  const file = path.join(temporaryFolder(t), 'out.log')
  writeFileSync(file, 'before\n')
  const sink = new LineSink({ file })
  sink.write('after\n')
  await sink.close()
  await sink.close()
  assert.equal(sink.write('late\n'), false)
  assert.equal(sink.dropped, 1)
  assert.equal(readFileSync(file, 'utf8'), 'before\nafter\n')
})

test('line sink: past its limit lines are dropped and counted, and it goes on afterwards', async t => {
  const file = path.join(temporaryFolder(t), 'out.log')
  const sink = new LineSink({ file }, { maxLogQueueBytes: 100 })
  for (let index = 0; index < 11; index++) assert.equal(sink.write('123456789\n'), index < 10)
  assert.deepEqual([sink.queued, sink.dropped], [100, 1])
  await sink.close()
  assert.equal(readFileSync(file, 'utf8').length, 100)
})

test('line sink: a file takes more than may wait while the event loop has no turn', async t => {
  const file = path.join(temporaryFolder(t), 'access.log')
  const sink = new LineSink({ file }, { maxLogQueueBytes: 2 * 1024 * 1024 })
  const line = `${'x'.repeat(1023)}\n`
  let most = 0
  for (let index = 0; index < 8 * 1024; index++) {
    sink.write(line)
    most = Math.max(most, sink.queued)
  }
  assert.equal(sink.dropped, 0)
  assert.ok(most < 1.3 * 1024 * 1024, String(most))
  await sink.close()
  assert.equal(readFileSync(file, 'utf8'), line.repeat(8 * 1024))
})

test('line sink: after a reopening lines go to a new file, none is lost', async t => {
  const file = path.join(temporaryFolder(t), 'out.log')
  const sink = new LineSink({ file }, { collectMs: 0 })
  const written: string[] = []
  for (let round = 0; round < 5; round++) {
    for (let index = 0; index < 300; index++) {
      written.push(`${round} ${index}\n`)
      sink.write(`${round} ${index}\n`)
    }
    if (existsSync(file)) renameSync(file, `${file}.${round}`)
    sink.reopen()
    while (!existsSync(file)) await new Promise(resolve => setImmediate(resolve))
  }
  await sink.close()
  const parts = [0, 1, 2, 3, 4].map(round => `${file}.${round}`).filter(existsSync)
  assert.equal([...parts, file].map(name => readFileSync(name, 'utf8')).join(''), written.join(''))
  assert.ok(parts.length >= 4)
})

test('line sink: a file that cannot be opened is found at the start', t => {
  const folder = temporaryFolder(t)
  assert.throws(() => new LineSink({ file: folder }), { code: 'EISDIR' })
})

test('line sink: a named pipe is a stream that others share, and one that nobody reads is refused at once', async t => {
  const fifo = path.join(temporaryFolder(t), 'fifo')
  assert.equal(spawnSync('mkfifo', [fifo]).status, 0)
  assert.throws(() => new LineSink({ file: fifo }), { code: 'ENXIO' })
  const fd = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK)
  t.after(() => closeSync(fd))
  const sink = new LineSink({ file: fifo })
  assert.equal(sink.maxLineLength, 4096)
  const lines = Array.from({ length: 100 }, (_, at) => `${'x'.repeat(90)}${at}\n`)
  for (const line of lines) sink.write(line)
  await sink.close()
  const buffer = Buffer.alloc(65_536)
  assert.equal(buffer.toString('latin1', 0, readSync(fd, buffer)), lines.join(''))
})

test('line sink: reopenings and closings side by side leave the descriptors of others alone', async t => {
  const file = path.join(temporaryFolder(t), 'out.log')
  for (let round = 0; round < 50; round++) {
    const sink = new LineSink({ file }, { collectMs: 0 })
    sink.write('line\n')
    for (let again = 0; again < 3; again++) sink.reopen()
    const other = openSync(file, 'r')
    await sink.close()
    await new Promise(resolve => setImmediate(resolve))
    // Closed by the sink it would have been somebody else's by now, or nobody's.
    assert.ok(fstatSync(other).isFile())
    closeSync(other)
  }
  assert.equal(readFileSync(file, 'utf8'), 'line\n'.repeat(50))
})

test('line sink: a full disk costs lines, never an exception, and does not hold up the end', async () => {
  const sink = new LineSink({ file: '/dev/full' }, { collectMs: 0, maxLogQueueBytes: 1000 })
  for (let index = 0; index < 50; index++) sink.write(`${'x'.repeat(49)}\n`)
  while (sink.faults === 0) await new Promise(resolve => setImmediate(resolve))
  assert.equal(sink.dropped, 30)
  await sink.close()
  assert.equal(sink.dropped, 50)
})

test('line sink: what waits is written when the process ends at once', async t => {
  const child = program(t, 'const sink = new LineSink("stdout"); for (let i = 0; i < 100; i++) sink.write(`line ${i}\\n`); process.exit(0)')
  let text = ''
  child.stdout?.setEncoding('utf8').on('data', (part: string) => { text += part })
  const [code] = await once(child, 'close') as [number]
  assert.equal(code, 0)
  assert.equal(text, Array.from({ length: 100 }, (_, index) => `line ${index}\n`).join(''))
})

test('line sink: output that is redirected to a file keeps its place', async t => {
  const file = path.join(temporaryFolder(t), 'out.log')
  writeFileSync(file, '')
  const fd = openSync(file, 'w')
  const child = program(t, `
    process.stdout.write("first\\n")
    const sink = new LineSink("stdout", { collectMs: 0 })
    sink.write("second\\n")
    await sink.close()
    process.stdout.write("third\\n")`, fd)
  await once(child, 'close')
  closeSync(fd)
  assert.equal(readFileSync(file, 'utf8'), 'first\nsecond\nthird\n')
})

for (const kind of ['socket', 'pipe'] as const) {
  test(`line sink: nobody reads the ${kind}; serving goes on, lines are dropped, the process still ends`, async t => {
    let stdout: 'pipe' | number = 'pipe' // To Node this means a pair of sockets.
    if (kind === 'pipe') {
      const fifo = path.join(temporaryFolder(t), 'fifo')
      assert.equal(spawnSync('mkfifo', [fifo]).status, 0)
      const fd = openSync(fifo, constants.O_RDWR) // Both ends, so that opening does not wait.
      t.after(() => closeSync(fd))
      stdout = fd
    }
    const child = program(t, `
      const sink = new LineSink("stdout", { maxLogQueueBytes: 300_000, collectMs: 0 })
      let turns = 0
      const line = 'x'.repeat(999) + '\\n'
      const again = () => {
        for (let i = 0; i < 50; i++) sink.write(line)
        if (++turns < 100) setImmediate(again)
        else { process.send({ turns, dropped: sink.dropped, queued: sink.queued }); process.disconnect(); process.exit(0) }
      }
      again()`, stdout)
    child.stdout?.pause()
    const exited = once(child, 'exit')
    const [report] = await once(child, 'message') as [{ turns: number; dropped: number; queued: number }]
    assert.equal(report.turns, 100)
    assert.ok(report.dropped > 4000, `dropped ${report.dropped}`)
    assert.ok(report.queued <= 300_000)
    assert.deepEqual(await exited, [0, null])
  })
}

for (const kind of ['socket', 'pipe'] as const) {
  test(`line sink: processes that write to one ${kind} tear no line of each other, whatever its reader does`, async t => {
    const code = `
      const sink = new LineSink("stdout", { collectMs: 0 })
      const line = JSON.stringify({ id: process.argv[2], text: 'é'.repeat(100 + Math.floor(Math.random() * 300)) }) + '\\n'
      let written = 0
      const again = () => {
        for (let i = 0; i < 40; i++) sink.write(line)
        if (++written < 50) setImmediate(again)
        else void sink.close().then(() => process.exit(sink.dropped))
      }
      again()`
    const folder = temporaryFolder(t)
    writeFileSync(path.join(folder, 'writer.mjs'), `import { LineSink } from ${JSON.stringify(MODULE)}\n${code}\n`)
    const writers = `for id in 1 2 3; do "$0" "$1" $id & done; wait`
    const reader = spawn(
      'sh',
      ['-c', kind === 'pipe' ? `{ ${writers}; } | cat` : writers, process.execPath, path.join(folder, 'writer.mjs')],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    t.after(() => reader.kill('SIGKILL'))
    const parts: Buffer[] = []
    // Slow at first, so that the pipe fills and writes are refused.
    reader.stdout.on('data', (part: Buffer) => {
      parts.push(part)
      if (parts.length > 20) return
      reader.stdout.pause()
      setTimeout(() => reader.stdout.resume(), 10)
    })
    await once(reader, 'close')
    const lines = Buffer.concat(parts).toString().split('\n').slice(0, -1)
    const counts: Record<string, number> = {}
    for (const line of lines) {
      const { id } = JSON.parse(line) as { id: string }
      counts[id] = (counts[id] ?? 0) + 1
    }
    assert.deepEqual(counts, { 1: 2000, 2: 2000, 3: 2000 })
  })
}

test('line sink: a reader that went away ends nothing', async t => {
  const child = program(t, `
    const sink = new LineSink("stdout", { collectMs: 0 })
    process.once('message', () => {
      const timer = setInterval(() => {
        sink.write('line\\n')
        if (sink.dropped < 3) return
        clearInterval(timer)
        process.send(sink.queued)
        process.disconnect()
      }, 1)
    })
    process.send('ready')`)
  const exited = once(child, 'exit')
  await once(child, 'message')
  child.stdout?.destroy()
  child.send('go')
  const [queued] = await once(child, 'message') as [number]
  assert.equal(queued, 0)
  const [code] = await exited as [number]
  assert.equal(code, 0)
})
