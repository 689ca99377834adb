import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { LogFields, ProcessLog } from '../../src/ipc/process-log.ts'
import { RepeatedLines } from '../../src/telemetry/repeated-lines.ts'
import { FakeClock } from '../support/fake-clock.ts'

interface Written { readonly level: string; readonly message: string; readonly fields: LogFields; readonly at: number }

function world(): { clock: FakeClock; written: Written[]; lines: RepeatedLines } {
  const clock = new FakeClock(), written: Written[] = []
  const at = (level: string) => (message: string, fields: LogFields = {}): void => {
    written.push({ level, message, fields, at: clock.now() })
  }
  const log: ProcessLog = { info: at('info'), warn: at('warn'), error: at('error') }
  return { clock, written, lines: new RepeatedLines(log, clock) }
}

test('repeated lines: the first comes at once, the next a period later with the count of those between', () => {
  const { clock, written, lines } = world()
  for (let at = 0; at < 1000; at++) lines.warn('no answer', { peer: 'a' }, () => ({ at }))
  assert.deepEqual(written.map(({ level, message, fields }) => [level, message, fields['peer'], fields['at'], fields['suppressed']]), [
    ['warn', 'no answer', 'a', 0, undefined],
  ])
  clock.advance(1000)
  lines.warn('no answer', { peer: 'a' }, () => ({ at: 1000 }))
  assert.equal(written.length, 2)
  assert.equal(written[1]!.fields['suppressed'], 999)
  lines.close()
  assert.deepEqual([written.length, clock.pending], [2, 0])
})

test('repeated lines: details are not even made for a line that is left out', () => {
  const { lines } = world()
  let made = 0
  for (let at = 0; at < 50; at++) lines.error('failed', {}, () => ({ made: ++made }))
  assert.equal(made, 1)
  lines.close()
})

test('repeated lines: what was left out is told even when it does not happen again, and then nothing is kept', () => {
  const { clock, written, lines } = world()
  lines.info('gone', { peer: 'a' })
  lines.info('gone', { peer: 'a' })
  clock.advance(2000)
  assert.deepEqual(written.map(({ fields }) => fields['suppressed']), [undefined, 1])
  assert.equal(written[1]!.fields['peer'], 'a')
  clock.advance(10_000)
  assert.deepEqual([written.length, clock.pending], [2, 0])
})

test('repeated lines: subjects and messages have lines of their own, until there are too many', () => {
  const { clock, written, lines } = world()
  for (let subject = 0; subject < 100_000; subject++) lines.warn('turned away', { client: String(subject) })
  const named = written.filter(({ fields }) => fields['client'] !== undefined)
  assert.ok(named.length > 10 && named.length < 1000, String(named.length))
  assert.equal(written.length, named.length + 1)
  clock.advance(2000)
  assert.equal(written.at(-1)!.fields['suppressed'], 100_000 - written.length + 1)
  assert.equal(written.at(-1)!.fields['client'], undefined)
  lines.close()
})

test('repeated lines: whatever comes when, each period has one line at most and every call is told or counted', () => {
  const step = fc.record({ ms: fc.constantFrom(0, 1, 400, 999, 1000, 1700, 5000), subject: fc.constantFrom('a', 'b') })
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), steps => {
    const { clock, written, lines } = world()
    for (const { ms, subject } of steps) {
      clock.advance(ms)
      lines.error('failed', { subject })
    }
    clock.advance(5000)
    assert.equal(clock.pending, 0)
    for (const subject of ['a', 'b']) {
      const own = written.filter(({ fields }) => fields['subject'] === subject)
      for (let at = 1; at < own.length; at++) assert.ok(own[at]!.at - own[at - 1]!.at >= 1000)
      const counted = own.reduce((sum, { fields }) => sum + ((fields['suppressed'] as number | undefined) ?? 0), 0)
      const said = steps.filter(one => one.subject === subject).length
      // A line that only tells a count stands for no call of its own.
      assert.ok(counted <= said && counted + own.length >= said)
    }
  }))
})

test('repeated lines: of what is told for debugging nothing is kept, and nothing made, while nobody wants it', () => {
  const clock = new FakeClock(), written: string[] = []
  let wanted = false
  const debug = (message: string, fields: LogFields = {}): void => { written.push(`${message} ${String(fields['suppressed'])}`) }
  const lines = new RepeatedLines({ get debug() { return wanted ? debug : null }, info() {}, warn() {}, error() {} }, clock)
  let made = 0
  const say = (): void => lines.debug('a client left', { kind: 'a' }, () => ({ made: ++made }))
  say()
  assert.deepEqual([lines.wantsDebug, written, made, clock.pending], [false, [], 0, 0])
  wanted = true
  for (let at = 0; at < 10; at++) say()
  assert.deepEqual([lines.wantsDebug, written, made], [true, ['a client left undefined'], 1])
  clock.advance(1000)
  say()
  assert.deepEqual(written.slice(1), ['a client left 9'])
  say()
  wanted = false
  // The count of those that were left out goes with whoever wanted it.
  clock.advance(10_000)
  assert.deepEqual([written.length, clock.pending], [2, 0])
  assert.equal(new RepeatedLines({ info() {}, warn() {}, error() {} }, clock).wantsDebug, false)
})
