import assert from 'node:assert/strict'
import test from 'node:test'
import { descriptorOf, FIRST_SOCKET_FD, socketCount } from '../../src/ipc/descriptor-layout.ts'
import type { DescriptorLayout } from '../../src/ipc/descriptor-layout.ts'

const layout: DescriptorLayout = {
  slots: 3, copies: 2,
  listeners: [{ name: 'tcp', shared: false }, { name: 'unix', shared: true }, { name: 'tcp2', shared: false }],
}

test('descriptor layout: every socket has its own number, without gaps', () => {
  const numbers: number[] = []
  for (let copy = 0; copy < layout.copies; copy++) {
    layout.listeners.forEach((listener, index) => {
      for (let slot = 0; slot < (listener.shared ? 1 : layout.slots); slot++) numbers.push(descriptorOf(layout, index, slot, copy))
    })
  }
  assert.equal(socketCount(layout), 7)
  assert.deepEqual(numbers, Array.from({ length: 14 }, (_, index) => FIRST_SOCKET_FD + index))
})

test('descriptor layout: a shared socket is the same for every slot', () => {
  assert.equal(descriptorOf(layout, 1, 0, 0), descriptorOf(layout, 1, 2, 0))
})
