import assert from 'node:assert/strict'
import test from 'node:test'
import { progressText, ProgressView, type SeenStatus } from '../../../supervisor/commands/progress-view.ts'
import { screenOn, type Screen } from '../../../supervisor/commands/terminal.ts'
import type { OperationProgress } from '../../../supervisor/upgrade.ts'
import { leftOnScreen } from '../../support/screen-text.ts'

const PROGRESS: OperationProgress = {
  id: 'reload-2', kind: 'reload', step: 'preflight', steps: [], stepMs: 100, soakMs: null, generation: null, workers: null,
}
const READ = { soakMs: 10_000, generation: 2, workers: 2 }
const PREFLIGHT = { step: 'preflight', ms: 400 }
const CANARY = { step: 'canary', ms: 1_240 }
const SOAK = { step: 'soak', ms: 10_000 }

function at(step: string, more: Partial<OperationProgress> = {}, generations: readonly number[] = [1, 1]): SeenStatus {
  const slots = generations.map((generation, slot) => ({ slot, worker: { generation } }))
  return { progress: { ...PROGRESS, ...READ, step, ...more }, slots }
}

function screen(isTTY: boolean, columns = 80): Screen & { readonly text: string } {
  let text = ''
  const on = screenOn({ isTTY, columns, write(piece) { text += piece } }, 'xterm')
  return { ...on, get text() { return text } }
}

test('progress: on a terminal a step has one line, which counts down and ends with how long it took', () => {
  const terminal = screen(true)
  const view = new ProgressView('reload-2', terminal)
  view.see({ progress: PROGRESS, slots: [] })
  view.see(at('soak', { steps: [PREFLIGHT, CANARY], stepMs: 1_000 }))
  assert.deepEqual(leftOnScreen(terminal.text), [
    'reload-2: preflight: done in 0.4s',
    'reload-2: canary: done in 1.2s',
    'reload-2: soak: the first new worker serves alone, 9s left',
  ])
  view.see(at('soak', { steps: [PREFLIGHT, CANARY], stepMs: 9_400 }))
  assert.equal(leftOnScreen(terminal.text)[2], 'reload-2: soak: the first new worker serves alone, 1s left')
  view.see(at('rolling', { steps: [PREFLIGHT, CANARY, SOAK] }, [2, 1]))
  assert.deepEqual(leftOnScreen(terminal.text).slice(2), [
    'reload-2: soak: done in 10s',
    'reload-2: rolling: 1 of 2 workers replaced',
  ])
  view.end({ result: 'committed', steps: [PREFLIGHT, CANARY, SOAK, { step: 'rolling', ms: 900 }] })
  assert.deepEqual(leftOnScreen(terminal.text).slice(2), ['reload-2: soak: done in 10s', 'reload-2: rolling: done in 0.9s'])
  assert.ok(terminal.text.endsWith('\n'), 'the outcome has a line of its own')
})

test('progress: elsewhere a line is written once, and again only when there is something new', () => {
  const file = screen(false)
  const view = new ProgressView('reload-2', file)
  view.see({ progress: PROGRESS, slots: [] })
  view.see({ progress: PROGRESS, slots: [] })
  for (const stepMs of [1_000, 2_000]) view.see(at('soak', { steps: [PREFLIGHT, CANARY], stepMs }))
  for (const generations of [[2, 1], [2, 1], [2, 2]]) view.see(at('rolling', { steps: [PREFLIGHT, CANARY, SOAK] }, generations))
  view.end({ result: 'committed', steps: [PREFLIGHT, CANARY, SOAK, { step: 'rolling', ms: 900 }] })
  assert.deepEqual(file.text.split('\n'), [
    'reload-2: preflight: reads configuration and application',
    'reload-2: canary: done in 1.2s',
    'reload-2: soak: the first new worker serves alone for 10s',
    'reload-2: rolling: 1 of 2 workers replaced',
    'reload-2: rolling: 2 of 2 workers replaced',
    '',
  ])
})

test('progress: the step that was given up is told from those that were done', () => {
  const terminal = screen(true)
  const view = new ProgressView('reload-2', terminal)
  view.see(at('reverting', { steps: [PREFLIGHT, CANARY, { step: 'soak', ms: 2_100 }] }))
  assert.deepEqual(leftOnScreen(terminal.text).slice(1), [
    'reload-2: canary: done in 1.2s',
    'reload-2: soak: given up after 2.1s',
    'reload-2: reverting: the old workers take their places back',
  ])
  view.end({ result: 'rolled-back', steps: [PREFLIGHT, CANARY, { step: 'soak', ms: 2_100 }] })
  assert.equal(leftOnScreen(terminal.text).length, 3, 'the rest is in the outcome')
})

test('progress: an operation that waits for another one says for which', () => {
  const terminal = screen(true)
  const view = new ProgressView('reload-2', terminal)
  view.see(at('rolling', { id: 'upgrade-1' }))
  assert.deepEqual(leftOnScreen(terminal.text), ['reload-2: waiting: until upgrade-1 has ended, which is at its step rolling'])
  view.see({ progress: PROGRESS, slots: [] })
  assert.deepEqual(leftOnScreen(terminal.text), ['reload-2: preflight: reads configuration and application'])
  // The answer to the question for the outcome comes behind a status that shows the next one.
  view.see(at('canary', { id: 'reload-3' }))
  assert.deepEqual(leftOnScreen(terminal.text), ['reload-2: preflight: reads configuration and application'])
})

test('progress: a line that does not fit is cut, since one that wraps could not be written again', () => {
  const terminal = screen(true, 21)
  const view = new ProgressView('reload-2', terminal)
  view.see({ progress: PROGRESS, slots: [] })
  assert.deepEqual(leftOnScreen(terminal.text), ['reload-2: preflight:'])
})

test('progress: a supervisor that does not say where it is shows nothing, and a step of a later one is named', () => {
  const terminal = screen(true)
  const view = new ProgressView('reload-2', terminal)
  view.see({ slots: [] })
  view.see({ progress: null, slots: [] })
  assert.equal(terminal.text, '')
  view.see(at('rehearsal'))
  assert.deepEqual(leftOnScreen(terminal.text), ['reload-2: rehearsal'])
})

test('progress: a status says where an operation is, and how long its soak will take', () => {
  const { progress, slots } = at('soak', { stepMs: 2_600 })
  assert.equal(progressText(progress!, slots), 'reload-2: soak: the first new worker serves alone, 8s left')
  assert.equal(progressText({ ...progress!, step: 'rehearsal' }, slots), 'reload-2: rehearsal')
})
