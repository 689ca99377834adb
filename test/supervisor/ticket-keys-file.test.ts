import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import test from 'node:test'
import fc from 'fast-check'
import { MAX_TICKET_KEYS, parseTicketKeys } from '../../supervisor/ticket-keys-file.ts'
import { requireProgram } from '../support/programs.ts'

const one = randomBytes(48), other = randomBytes(48), long = randomBytes(80)
const textOf = (...lines: readonly string[]): Buffer => Buffer.from(lines.join('\n'))

test('ticket keys file: a key a line, the one that encrypts first', () => {
  const [first, second] = [one.toString('base64'), other.toString('base64')]
  assert.deepEqual(parseTicketKeys(textOf('# of the fleet', first, '', `  ${second}\r`, '')), [first, second])
  assert.deepEqual(parseTicketKeys(textOf(first)), [first])
})

test('ticket keys file: what openssl makes is a line', t => {
  const openssl = requireProgram(t, 'openssl')
  if (openssl === null) return
  const made = execFileSync(openssl, ['rand', '-base64', '48'])
  assert.deepEqual(parseTicketKeys(made), [made.toString().trim()])
})

test('ticket keys file: of 80 bytes the first half of each key is used', () => {
  const short = Buffer.concat([long.subarray(0, 32), long.subarray(48, 64)]).toString('base64')
  assert.deepEqual(parseTicketKeys(textOf(long.toString('base64'))), [short])
  assert.deepEqual(parseTicketKeys(textOf(long.toString('base64').replace(/=+$/, ''))), [short])
  assert.deepEqual(parseTicketKeys(long), [short], 'as nginx has it')
  assert.deepEqual(parseTicketKeys(one), [one.toString('base64')])
})

test('ticket keys file: what is wrong is said with its line, and never shown', () => {
  const good = one.toString('base64')
  const faults: readonly [Buffer, RegExp][] = [
    [textOf(''), /no key in it; use a key a line/],
    [textOf('# nothing'), /no key in it/],
    [textOf(good, 'secret!!'), /^line 2 is no base64; use/],
    [textOf(good.slice(4)), /key in line 1 has 45 bytes; use/],
    [textOf(good, good), /keys 1 and 2 begin with the same 16 bytes/],
    [Buffer.alloc(20_000, 0x41), /has 20000 bytes/],
    [randomBytes(47), /./],
    [textOf(...Array.from({ length: MAX_TICKET_KEYS + 1 }, () => randomBytes(48).toString('base64'))), /has 17 keys; use at most 16/],
  ]
  for (const [bytes, wanted] of faults) {
    assert.throws(() => parseTicketKeys(bytes), (error: Error) => {
      assert.match(error.message, wanted)
      assert.ok(!error.message.includes('secret') && !error.message.includes(good.slice(4, 20)), error.message)
      return true
    })
  }
})

test('ticket keys file: bytes of whatever kind are keys of 48 bytes, or an error with a clause', () => {
  const lines = fc.array(fc.oneof(fc.uint8Array({ minLength: 48, maxLength: 48 }), fc.uint8Array({ maxLength: 90 })), { maxLength: 20 })
  const written = lines.map(all => textOf(...all.map(bytes => Buffer.from(bytes).toString('base64'))))
  fc.assert(fc.property(fc.oneof(written, fc.uint8Array({ maxLength: 200 }).map(Buffer.from)), bytes => {
    let keys: readonly string[]
    try { keys = parseTicketKeys(bytes) } catch (error) {
      assert.match((error as Error).message, /; (use|make)/)
      return
    }
    assert.ok(keys.length > 0 && keys.every(key => Buffer.from(key, 'base64').length === 48))
  }))
})
