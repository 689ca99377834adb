import assert from 'node:assert/strict'
import test from 'node:test'
import { resolveSupervisorOptions } from '../../src/config/supervisor-options.ts'
import { JOURNAL_FORMAT } from '../../supervisor/journal.ts'
import { readResumption } from '../../supervisor/resumption.ts'

const generation = (number: number) => ({
  number, settings: { log: {}, limits: {}, listeners: { [`of ${number}`]: {} } }, release: { folder: `/r${number}` },
})
const STATE = {
  format: JOURNAL_FORMAT, application: '/current/app.ts', args: ['--a'], origin: { file: '/c.yaml', folder: '/', flags: {} }, listeners: [],
  options: resolveSupervisorOptions({ workers: 1 }), fleet: { committed: 1, generations: [generation(1)] },
  upgrades: { running: { plan: { generation: generation(2), options: resolveSupervisorOptions({ workers: 2 }) } } },
}

test('resumption: forward leads into the generation on trial, back into the one that is committed', () => {
  const forward = readResumption({ state: STATE, attempt: 'forward', reason: '' })
  assert.deepEqual(forward.resumption, { how: 'forward' })
  assert.deepEqual([forward.config.supervisor.workers, Object.keys(forward.config.listeners)], [2, ['of 2']])
  assert.deepEqual([forward.releaseFolder, forward.config.sentry.dsn], ['/r2', ''])
  const back = readResumption({ state: STATE, attempt: 'back', reason: 'it was late' })
  assert.deepEqual(back.resumption, { how: 'back', reason: 'it was late' })
  assert.deepEqual([back.config.supervisor.workers, Object.keys(back.config.listeners)], [1, ['of 1']])
  assert.deepEqual([back.application, back.args, back.config.file], ['/current/app.ts', ['--a'], '/c.yaml'])
})

test('resumption: a state that cannot be used is an error, and so leads back', () => {
  const read = (changed: object): unknown => readResumption({ state: { ...STATE, ...changed }, attempt: 'forward', reason: '' })
  assert.throws(() => read({ format: 1 }), /format that this release does not read/)
  assert.throws(() => read({ upgrades: null }), /names no generation/)
})
