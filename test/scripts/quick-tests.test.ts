import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listTests, slowReason } from '../../scripts/quick-tests.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

test('quick tests: a file that starts no process and does not sleep is quick, whatever its types are', (t) => {
  const root = temporaryFolder(t)
  writeTree(root, {
    'test/pool/pool.test.ts': `import { fake } from '../support/fake.ts'\nimport type { ChildProcess } from 'node:child_process'\n`,
    'test/support/fake.ts': `// import 'node:child_process'\nexport const fake = setTimeout(() => {}, 5)\n`,
  })
  assert.deepEqual(listTests(root), ['test/pool/pool.test.ts'])
  assert.equal(slowReason(root, 'test/pool/pool.test.ts'), null)
})

test('quick tests: one that reaches a module that starts processes is not quick, and the way there is told', (t) => {
  const root = temporaryFolder(t)
  writeTree(root, {
    'test/a.test.ts': `import { b } from './support/b.ts'\n`,
    'test/support/b.ts': `import { c } from './c.ts'\nimport './a-circle.ts'\n`,
    'test/support/a-circle.ts': `import './b.ts'\n`,
    'test/support/c.ts': `import { fork } from 'node:child_process'\n`,
    'test/worker.test.ts': `await import('node:worker_threads')\n`,
  })
  assert.equal(
    slowReason(root, 'test/a.test.ts'),
    'starts processes: test/a.test.ts -> test/support/b.ts -> test/support/c.ts -> node:child_process',
  )
  assert.match(slowReason(root, 'test/worker.test.ts') ?? '', /node:worker_threads$/)
})

test('quick tests: one that sleeps is not quick', (t) => {
  const root = temporaryFolder(t)
  writeTree(root, {
    'test/a.test.ts': `import { setTimeout as delay } from 'node:timers/promises'\nawait delay(50)\n`,
    'test/b.test.ts': `await new Promise<void>((resolve) => { setTimeout(resolve, 50) })\n`,
    'test/c.test.ts': `await new Promise(resolve => setTimeout(resolve, 50))\n`,
    'test/d.test.ts': `const title = 'await new Promise(resolve => setTimeout(resolve, 50))'
await new Promise(resolve => socket.once('close', resolve))
`,
  })
  assert.deepEqual(listTests(root).map(file => slowReason(root, file)), ['sleeps', 'sleeps', 'sleeps', null])
})

test('quick tests: folders and names of tests that start processes by way of the code under test', (t) => {
  const root = temporaryFolder(t)
  writeTree(root, {
    'test/bin/a.process.test.ts': '', 'test/integration/b.test.ts': '', 'test/memory.serial.test.ts': '', 'test/simulation/c.test.ts': '',
  })
  assert.deepEqual(listTests(root).map(file => slowReason(root, file)), [
    'is named *.process.test.ts', 'is in test/integration/', 'is named *.serial.test.ts', 'is in test/simulation/',
  ])
})
