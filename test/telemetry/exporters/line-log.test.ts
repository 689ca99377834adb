import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { closeSync, constants, openSync, readFileSync, readSync, renameSync } from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { createLineLog, type LineLog, type LineLogOptions } from '../../../src/telemetry/exporters/line-log.ts'
import { temporaryFolder, writeTree } from '../../support/temporary-folder.ts'

async function written(t: TestContext, options: LineLogOptions, use: (log: LineLog) => void): Promise<string> {
  const file = path.join(temporaryFolder(t), 'process.log')
  const log = createLineLog({ who: 'worker 1.0.1', ...options, destination: { file } })
  use(log)
  await log.close()
  return readFileSync(file, 'utf8')
}

test('process log: one JSON object a line with level, time, pid and who', async t => {
  const text = await written(t, {}, log => {
    log.info('ready', { slot: 3, nothing: undefined })
    log.warn('slow', { error: new Error('no') })
    log.error('gone', { stack: 'Error\n    at a' })
    log.debug?.('not shown')
  })
  const lines = text.trimEnd().split('\n').map(line => JSON.parse(line) as Record<string, unknown>)
  assert.deepEqual(lines.map(({ level, msg }) => [level, msg]), [['info', 'ready'], ['warn', 'slow'], ['error', 'gone']])
  assert.deepEqual(Object.keys(lines[0] ?? {}), ['level', 'time', 'pid', 'who', 'slot', 'msg'])
  assert.equal(lines[0]?.['who'], 'worker 1.0.1')
  assert.equal(lines[1]?.['error'], 'no')
  assert.match(String(lines[0]?.['time']), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
})

test('process log: text for a person, stacks on lines of their own', async t => {
  const text = await written(t, { format: 'text' }, log => {
    log.info('ready', { slot: 3, listeners: ['a'] })
    log.warn('slow')
    log.error('gone', { error: new Error('no'), stack: 'Error: no\n    at a' })
  })
  assert.equal(text, [
    'worker 1.0.1: ready slot=3 listeners=["a"]', 'worker 1.0.1: warning: slow', 'worker 1.0.1: error: gone error=no',
    '    Error: no', '        at a', '',
  ].join('\n'))
})

test('process log: text shows the lines of source that an error came from, and no frame of ours; JSON has the stack as it is', async t => {
  const folder = temporaryFolder(t)
  writeTree(folder, { 'edge.ts': 'const a = 1\nfail()\n' })
  const ours = new URL('../../../src/proxy/exchange.ts', import.meta.url).href
  const stack = `TypeError: no\n    at hook (${folder}/edge.ts:2:1)\n    at #run (${ours}:9:9)\n    at node:internal/x:1:1`
  const text = await written(t, { format: 'text' }, log => log.error('a hook failed', { stack }))
  const place = path.relative('', path.join(folder, 'edge.ts'))
  assert.deepEqual(text.split('\n'), [
    'worker 1.0.1: error: a hook failed', `    ${place}:2:1`, '      1 | const a = 1', '    > 2 | fail()', '        | ^',
    '    TypeError: no', `        at hook (${folder}/edge.ts:2:1)`, '',
  ])
  const json = JSON.parse(await written(t, { format: 'json' }, log => log.error('a hook failed', { stack }))) as { stack: string }
  assert.equal(json.stack, stack)
  // A fault of ours has no other place.
  const own = await written(t, { format: 'text' }, log => log.error('failed', { stack: `Error: no\n    at #run (${ours}:9:9)` }))
  assert.match(own, /^ {8}at #run \(.*exchange\.ts:9:9\)$/m)
})

test('process log: the level decides in both forms', async t => {
  for (const format of ['text', 'json'] as const) {
    const text = await written(t, { format, level: 'warn' }, log => { log.debug?.('a'); log.info('b'); log.warn('c'); log.error('d') })
    assert.equal(text.trimEnd().split('\n').length, 2, format)
    assert.equal(
      (await written(t, { format, level: 'debug' }, log => { log.debug?.('a'); log.info('b') })).trimEnd().split('\n').length,
      2,
      format,
    )
  }
})

test('process log: nothing from outside adds a line or reaches the terminal', async t => {
  const evil = 'a\r\nworker: error: fake\u001b[2J\u009b31m\u007f\0'
  for (const format of ['text', 'json'] as const) {
    const text = await written(t, { format }, log => log.error(evil, { host: evil, error: new Error(evil), list: [evil] }))
    assert.match(text, /^[^\0-\x1F\x7F-\x9F]+\n$/, format)
    if (format === 'json') assert.equal((JSON.parse(text) as { host: string }).host, evil)
  }
})

test('process log: fields that are the line\'s own, too long, or no JSON', async t => {
  const circular: Record<string, unknown> = {}
  circular['self'] = circular
  for (const format of ['text', 'json'] as const) {
    const text = await written(
      t,
      { format },
      log => log.info('x'.repeat(5000), { level: 'fake', pid: 1, msg: 'm', long: 'y'.repeat(5000), circular, big: 1n, none: Symbol('x') }),
    )
    assert.ok(text.length < 2 * 2048 + 500, format)
    assert.match(text, format === 'json' ? /"level_":"fake"/ : / level_=fake /)
    assert.match(text, format === 'json' ? /"circular":"\[not printable\]","big":"\[not printable\]","none":"Symbol\(x\)"/ : / none=Symbol/)
    if (format === 'json') assert.equal((JSON.parse(text) as { pid: number }).pid, process.pid)
  }
})

test('process log: after a reopening lines go to the new file', async t => {
  const file = path.join(temporaryFolder(t), 'process.log')
  const log = createLineLog({ destination: { file } })
  log.info('before')
  log.reopen()
  await log.close()
  assert.equal(readFileSync(file, 'utf8').trimEnd().split('\n').length, 1)
  renameSync(file, `${file}.1`)
  const next = createLineLog({ destination: { file } })
  next.info('after')
  await next.close()
  assert.match(readFileSync(file, 'utf8'), /after/)
  assert.equal(log.dropped + next.dropped, 0)
})

test('process log: on a pipe that others write to a line is short enough to stay whole', async t => {
  const fifo = path.join(temporaryFolder(t), 'fifo')
  assert.equal(spawnSync('mkfifo', [fifo]).status, 0)
  const fd = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK) // Both ends, so that opening does not wait.
  t.after(() => closeSync(fd))
  for (const format of ['text', 'json'] as const) {
    const log = createLineLog({ format, destination: { file: fifo } })
    const long = '\u00E9\u001B"'.repeat(5000)
    log.error(long, { what: long, error: new Error(long), stack: `${long}\n${long}`, list: [long, long], host: 'a.example' })
    await log.close()
    const buffer = Buffer.alloc(100_000)
    const text = buffer.toString('utf8', 0, readSync(fd, buffer))
    assert.ok(Buffer.byteLength(text) <= 4096, `${format}: ${text.length}`)
    assert.match(text, /a\.example/)
    if (format === 'json') assert.equal((JSON.parse(text) as { host: string }).host, 'a.example')
  }
})

test('process log: its level changes while it is open, and who would write what nobody wants can know it before', async t => {
  const text = await written(t, {}, log => {
    const isWanted = (): boolean => log.debug !== null
    assert.equal(isWanted(), false)
    log.setLevel('debug')
    log.debug?.('shown')
    log.setLevel('error')
    assert.equal(isWanted(), false)
    log.warn('left out')
    log.error('told')
    log.setLevel('info')
    log.info('again')
  })
  const lines = text.trimEnd().split('\n').map(line => JSON.parse(line) as { level: string; msg: string })
  assert.deepEqual(lines.map(({ level, msg }) => `${level} ${msg}`), ['debug shown', 'error told', 'info again'])
})
