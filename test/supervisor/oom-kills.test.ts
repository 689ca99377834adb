import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { OomKills } from '../../supervisor/oom-kills.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

test('kills for want of memory: each is seen once, and those of before never', t => {
  const file = path.join(temporaryFolder(t), 'memory.events')
  const write = (kills: number): void => { fs.writeFileSync(file, `low 0\nhigh 0\nmax 9\noom 7\noom_kill ${kills}\noom_group_kill 0\n`) }
  write(3)
  const kills = new OomKills(file)
  assert.equal(kills.another(), false)
  write(4)
  assert.deepEqual([kills.another(), kills.another()], [true, false])
  write(6)
  assert.deepEqual([kills.another(), kills.another()], [true, false])
})

test('kills for want of memory: where the kernel does not count them nothing is known', t => {
  const folder = temporaryFolder(t)
  for (const file of [path.join(folder, 'missing'), folder, '']) assert.equal(new OomKills(file).another(), false)
  const other = path.join(folder, 'other')
  fs.writeFileSync(other, 'something else')
  assert.equal(new OomKills(other).another(), false)
})
