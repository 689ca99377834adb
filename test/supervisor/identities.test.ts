import assert from 'node:assert/strict'
import test from 'node:test'
import { resolveIdentity } from '../../supervisor/identities.ts'

const files: Record<string, string> = {
  '/etc/passwd': 'root:x:0:0::/root:/bin/sh\nweb:x:33:44::/:/x\n',
  '/etc/group': 'root:x:0:\nops:x:55:web\n',
}
const read = (file: string): string => files[file]!

test('identities: a user brings its own group, a group counts over it, nothing changes nothing', () => {
  assert.deepEqual(resolveIdentity('', '', read), { uid: null, gid: null })
  assert.deepEqual(resolveIdentity('web', '', read), { uid: 33, gid: 44 })
  assert.deepEqual(resolveIdentity('33', 'ops', read), { uid: 33, gid: 55 })
  assert.deepEqual(resolveIdentity('1234', '', read), { uid: 1234, gid: null })
  assert.deepEqual(resolveIdentity('', '55', read), { uid: null, gid: 55 })
})

test('identities: a name that does not exist is refused', () => {
  assert.throws(() => resolveIdentity('nobody-here', '', read), /supervisor\.user is "nobody-here"; use the name/)
  assert.throws(() => resolveIdentity('', 'nobody-here', read), /supervisor\.group/)
})
