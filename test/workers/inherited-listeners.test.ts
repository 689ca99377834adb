import assert from 'node:assert/strict'
import test from 'node:test'
import type { DescriptorLayout } from '../../src/ipc/descriptor-layout.ts'
import type { SystemCalls } from '../../src/ipc/system-calls.ts'
import { sendInherited } from '../../workers/inherited-listeners.ts'

const LAYOUT: DescriptorLayout = {
  slots: 150, copies: 3,
  listeners: [{ name: 'a', shared: false }, { name: 'shared', shared: true }, { name: 'b', shared: false }],
}

/** Of all calls only the one that is needed. */
function sending(sendDatagram: SystemCalls['sendDatagram']): SystemCalls { return { sendDatagram } as SystemCalls }

function refusal(code: string): Error { return Object.assign(new Error(code), { code }) }

test('inherited listeners: copy 0 of every socket is sent once, in order, in datagrams that the kernel takes', async () => {
  const sent: { index: number; descriptors: readonly number[] }[] = []
  let full = 3
  await sendInherited(LAYOUT, sending((path, payload, descriptors) => {
    assert.equal(path, '/inbox')
    if (sent.length === 1 && full-- > 0) throw refusal('EAGAIN')
    assert.equal(payload.length, 4)
    sent.push({ index: payload.readUInt32LE(0), descriptors })
  }), '/inbox', () => false)
  assert.deepEqual(sent.map(({ index, descriptors }) => [index, descriptors.length]), [[0, 200], [200, 101]])
  assert.deepEqual(sent.flatMap(({ descriptors }) => descriptors), Array.from({ length: 301 }, (_, index) => 4 + index))
})

test('inherited listeners: what was closed meanwhile is not sent, and a refusal of the kernel is passed on', async () => {
  let closed = false
  await assert.rejects(sendInherited(LAYOUT, sending(() => { closed = true }), '/inbox', () => closed), /closed for good/)
  await assert.rejects(sendInherited(LAYOUT, sending(() => { throw refusal('ENOENT') }), '/inbox', () => false), { code: 'ENOENT' })
})
