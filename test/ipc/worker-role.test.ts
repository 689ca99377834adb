import assert from 'node:assert/strict'
import test from 'node:test'
import { ROLE_VARIABLE, takeRole } from '../../src/ipc/worker-role.ts'

test('worker role: it is taken out of the environment, and the token comes from its descriptor', () => {
  const role = { role: 'worker', worker: '1.0.0', slot: 0, application: '/a.ts', controlPath: '/w', maxControlMessageBytes: 1 }
  const env = { [ROLE_VARIABLE]: JSON.stringify({ ...role, tokenFd: 9 }), OTHER: '1' }
  assert.deepEqual(takeRole(env, fd => `from ${fd}`), { ...role, tokenFd: 9, token: 'from 9' })
  assert.deepEqual(env, { OTHER: '1' })
  assert.equal(takeRole(env), null)
  // A supervisor of another build has said it there, and a describe process has none.
  assert.deepEqual(takeRole({ [ROLE_VARIABLE]: JSON.stringify({ ...role, token: 't' }) }), { ...role, token: 't' })
  assert.deepEqual(takeRole({ [ROLE_VARIABLE]: '{"role":"describe","application":"/a.ts"}' }), { role: 'describe', application: '/a.ts' })
})
