import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { test } from 'node:test'

const ROOT = path.join(import.meta.dirname, '../..')

test('examples: the load balancer loads, and describes its listener without binding it', () => {
  const { status, stdout, stderr } = spawnSync(
    path.join(ROOT, 'bin/cirque'),
    ['validate', 'examples/load-balancer.ts', '--json'],
    { cwd: ROOT, encoding: 'utf8' },
  )
  assert.equal(status, 0, stderr)
  const { description } = JSON.parse(stdout) as {
    description: { listeners: { canonical: string }[]; services: { name: string; dependsOn: string[] }[] }
  }
  assert.deepEqual(description.listeners.map(({ canonical }) => canonical), ['127.0.0.1:6188'])
  assert.deepEqual(description.services.map(({ name, dependsOn }) => [name, dependsOn]), [
    ['demo-origins', []], ['http-proxy', ['demo-origins']],
  ])
})
