import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { OptionError } from '../../src/index.ts'
import { ownCertificate } from '../../src/kit/index.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

test('own certificate: its files are in the state folder, or where it is told, once it has started', t => {
  const stateFolder = temporaryFolder(t), own = ownCertificate()
  const ending = new AbortController()
  assert.throws(() => own.certificate.cert, /dependsOn/)
  assert.throws(() => own.start(ending.signal, {}), /give `folder`/)
  own.start(ending.signal, { stateFolder })
  assert.equal(own.certificate.cert, path.join(stateFolder, 'own-authority', 'site.pem'))
  assert.ok(existsSync(own.certificate.cert) && existsSync(own.authority))
  const folder = temporaryFolder(t), other = ownCertificate({ folder, names: ['dev.test'] })
  other.start(ending.signal, { stateFolder })
  assert.equal(path.dirname(other.authority), folder)
  ending.abort()
})

test('own certificate: names that no certificate can have are refused at once', () => {
  for (const names of [[], [''], ['a b'], ['a.*.test'], ['\u00fc.test'], ['host.'], ['10.0.0.0/8']]) {
    assert.throws(() => ownCertificate({ names }), OptionError, names.join())
  }
  ownCertificate({ names: ['*.dev.test', '::1', 'LOCALHOST'] })
})
