/** A worker's functions have machine code from their first call on, until its cache is written. V8 tells that to its own tests only. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import path from 'node:path'
import { test } from 'node:test'

const MODULE = path.resolve(import.meta.dirname, '../../src/ipc/compile-cache.ts')

test('compile cache: what is called first while a worker gets ready is not interpreted, what is called first later is', () => {
  const program = `
    import { compileWhatServes, keepCompiled } from ${JSON.stringify(MODULE)}
    const tier = f => { f(1); return %ActiveTierIsIgnition(f) ? 'interpreted' : 'compiled' }
    const told = [tier(function before(x) { return x + 1 })]
    compileWhatServes()
    told.push(tier(function meanwhile(x) { return x + 2 }))
    keepCompiled()
    told.push(tier(function later(x) { return x + 3 }))
    console.log(told.join(' '))
  `
  const args = ['--allow-natives-syntax', '--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', program]
  assert.equal(execFileSync(process.execPath, args, { encoding: 'utf8' }).trim(), 'interpreted compiled interpreted')
})
