import assert from 'node:assert/strict'
import test from 'node:test'
import tls from 'node:tls'
import {
  asksForTicketKeys, bytesOfTicketKey, makeTicketKey, proveTicketCallback, TICKET_KEY_BYTES, ticketKeyOf, TicketKeys,
} from '../../../src/protocols/tls/ticket-keys.ts'

test('ticket keys: a session is taken up again with an older key on this Node.js', async () => {
  assert.equal(await proveTicketCallback(), true)
  assert.equal(asksForTicketKeys(), true)
})

test('ticket keys: bytes become a key and bytes again; any other length is refused', () => {
  const key = makeTicketKey(), bytes = bytesOfTicketKey(key)
  assert.equal(bytes.length, TICKET_KEY_BYTES)
  assert.deepEqual(ticketKeyOf(bytes), key)
  assert.notDeepEqual(makeTicketKey(), key)
  assert.throws(() => ticketKeyOf(bytes.subarray(1)), /a ticket key has 48 bytes, not 47/)
})

test('ticket keys: none, or one with a part that is too short, is refused and the old ones stay', () => {
  const key = makeTicketKey(), keys = new TicketKeys([key])
  assert.throws(() => keys.set([]), /at least one key/)
  assert.throws(() => keys.set([{ ...key, aes: Buffer.alloc(15) }]), /16 bytes/)
  assert.deepEqual(keys.keys, [key])
})

test('ticket keys: the newest encrypts, any of them decrypts, and an unknown name gets whole keys of no use', () => {
  const newest = makeTicketKey(), older = makeTicketKey(), keys = new TicketKeys([newest, older])
  const context = tls.createSecureContext()
  keys.install(context)
  const ask = (context.context as { onticketkeycallback: (name: Buffer, iv: Buffer, encrypts: boolean) => unknown[] }).onticketkeycallback
  const [, hmac, aes, name, iv] = ask(Buffer.alloc(16), Buffer.alloc(16), true)
  assert.deepEqual([hmac, aes, name, (iv as Buffer).length], [newest.hmac, newest.aes, newest.name, 16])
  assert.deepEqual(ask(older.name, Buffer.alloc(16), false), [2, older.hmac, older.aes])
  // Shorter than this, and Node.js aborts.
  assert.deepEqual(ask(Buffer.alloc(16, 1), Buffer.alloc(16), false), [0, Buffer.alloc(16), Buffer.alloc(16)])
  keys.set([older])
  assert.deepEqual(ask(newest.name, Buffer.alloc(16), false)[0], 0)
})
