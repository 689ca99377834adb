import assert from 'node:assert/strict'
import test from 'node:test'
import { OrphanReaper } from '../../supervisor/orphan-reaper.ts'

test('orphan reaper: what is dead in two looks is taken, what Node.js takes in between is not', () => {
  const taken: number[] = []
  let dead: number[] = []
  const reaper = new OrphanReaper({ reap: pid => { taken.push(pid); return { code: 0, signal: null } } }, () => dead)
  const look = (...pids: number[]): number[] => {
    dead = pids
    reaper.look()
    return taken.splice(0)
  }
  assert.deepEqual(look(5, 6), [])
  assert.deepEqual(look(6, 7), [6])
  assert.deepEqual(look(7, 8), [7])
  assert.deepEqual(look(), [])
  assert.deepEqual(look(8), [], 'a number that was used again is another process')
})
