import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import test from 'node:test'
import { endByStopSignals } from '../../supervisor/early-signals.ts'
import { SignalPolicy, SIGNALS, STOP_SIGNALS } from '../../supervisor/signals.ts'

test('signals: a Ctrl-C that arrives twice counts once, a later one forces', () => {
  const policy = new SignalPolicy()
  assert.equal(policy.meaning('SIGINT', 0), 'interrupt')
  assert.equal(policy.meaning('SIGINT', 1), 'nothing')
  assert.equal(policy.meaning('SIGINT', 1_000), 'force')
})

test('signals: another stop signal forces at once', () => {
  const policy = new SignalPolicy()
  assert.equal(policy.meaning('SIGTERM', 0), 'stop')
  assert.equal(policy.meaning('SIGQUIT', 1), 'force')
})

test('signals: HUP reloads and USR2 asks for an upgrade until a stop, USR1 reopens logs always', () => {
  const policy = new SignalPolicy()
  assert.equal(policy.meaning('SIGUSR2', 0), 'upgrade')
  assert.equal(policy.meaning('SIGHUP', 0), 'reload')
  assert.equal(policy.meaning('SIGQUIT', 0), 'stop')
  assert.equal(policy.meaning('SIGHUP', 5_000), 'nothing')
  assert.equal(policy.meaning('SIGUSR2', 5_000), 'nothing')
  assert.equal(policy.meaning('SIGUSR1', 5_000), 'reopen-logs')
})

test('signals: what is preloaded into an image keeps each of them until it is asked', () => {
  const preload = new URL('../../supervisor/keep-signals.mjs', import.meta.url).href
  const program = `
    for (const signal of ${JSON.stringify(SIGNALS)}) process.kill(process.pid, signal)
    setImmediate(() => setImmediate(() => {
      const kept = globalThis[Symbol.for('cirque.takeKeptSignals')]()
      console.log(JSON.stringify([kept.sort(), ${JSON.stringify(SIGNALS)}.map(signal => process.listenerCount(signal))]))
    }))`
  const { stdout, stderr } = spawnSync(process.execPath, [`--import=${preload}`, '--eval', program], { encoding: 'utf8' })
  assert.deepEqual(JSON.parse(stdout || '[]'), [[...SIGNALS].sort(), SIGNALS.map(() => 0)], stderr)
})

test('signals: what must not be lost with an image ends it, whoever else listens; what is undone is as before', () => {
  const other = (): void => {}
  process.on('SIGTERM', other)
  const before = STOP_SIGNALS.map(signal => process.listeners(signal))
  const undo = endByStopSignals()
  assert.deepEqual(STOP_SIGNALS.map(signal => process.listenerCount(signal)), [0, 0, 0])
  undo()
  assert.deepEqual(STOP_SIGNALS.map(signal => process.listeners(signal)), before)
  process.off('SIGTERM', other)
})
