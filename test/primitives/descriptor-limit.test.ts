import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { descriptorLimit } from '../../src/primitives/descriptor-limit.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

test('descriptor limit: it is the same whether the system says it in a file or not', t => {
  const missing = path.join(temporaryFolder(t), 'limits')
  const allowed = descriptorLimit()
  assert.ok(allowed >= 64, `${allowed}`)
  assert.equal(descriptorLimit(missing), allowed)
})

test('descriptor limit: the soft limit counts, and there may be none', t => {
  const file = path.join(temporaryFolder(t), 'limits')
  const limits = (soft: string): string => `Limit                     Soft Limit           Hard Limit           Units
Max processes             98501                98501                processes
Max open files            ${soft.padEnd(20)} 1048576              files
`
  const seen = ['1024', 'unlimited'].map(soft => {
    fs.writeFileSync(file, limits(soft))
    return descriptorLimit(file)
  })
  assert.deepEqual(seen, [1024, Infinity])
})
