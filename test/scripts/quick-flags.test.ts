import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { QUICK_FLAGS } from '../../scripts/quick-tests.ts'

test('quick tests: what hides a process behind the code under test is refused when it runs', () => {
  const program = `import('node:child_process').then(({ spawnSync }) => spawnSync('true'))`
  assert.match(spawnSync(process.execPath, [...QUICK_FLAGS, '-e', program], { encoding: 'utf8' }).stderr, /ERR_ACCESS_DENIED/)
  assert.equal(spawnSync(process.execPath, ['-e', program]).status, 0)
})
