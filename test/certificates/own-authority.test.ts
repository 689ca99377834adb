import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { chmodSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { keepOwnCertificate, ownAuthorityFiles } from '../../src/certificates/own-authority.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const DAY = 86_400_000
const NAMES = ['localhost', '127.0.0.1', '::1']
const NOW = Date.now()

function readPair(folder: string): { ca: X509Certificate; leaf: X509Certificate } {
  const { caFile, certFile } = ownAuthorityFiles(folder)
  return { ca: new X509Certificate(readFileSync(caFile)), leaf: new X509Certificate(readFileSync(certFile)) }
}

test('own authority: a certificate for the names by an authority that is kept, readable by nobody else', t => {
  const folder = path.join(temporaryFolder(t), 'below', 'own')
  assert.equal(keepOwnCertificate(folder, NAMES, NOW), true)
  const { ca, leaf } = readPair(folder)
  assert.ok(leaf.checkIssued(ca) && leaf.verify(ca.publicKey) && ca.ca)
  assert.deepEqual([leaf.checkHost('localhost'), leaf.checkIP('127.0.0.1'), leaf.checkIP('::1')], ['localhost', '127.0.0.1', '::1'])
  assert.deepEqual(leaf.keyUsage, ['1.3.6.1.5.5.7.3.1'])
  const modes = Object.fromEntries(readdirSync(folder).map(name => [name, (statSync(path.join(folder, name)).mode & 0o777).toString(8)]))
  assert.deepEqual(modes, { 'authority.pem': '600', 'ca.crt': '644', 'site.pem': '600' })
  assert.doesNotMatch(readFileSync(ownAuthorityFiles(folder).caFile, 'latin1'), /PRIVATE/)
  assert.equal(keepOwnCertificate(folder, NAMES, NOW + 30 * DAY), false)
  assert.equal(readPair(folder).leaf.fingerprint256, leaf.fingerprint256)
})

test('own authority: a certificate is renewed in time, by the same authority', t => {
  const folder = temporaryFolder(t)
  keepOwnCertificate(folder, NAMES, NOW)
  const before = readPair(folder)
  assert.equal(keepOwnCertificate(folder, NAMES, NOW + 44 * DAY), false)
  assert.equal(keepOwnCertificate(folder, NAMES, NOW + 46 * DAY), true)
  const after = readPair(folder)
  assert.equal(after.ca.fingerprint256, before.ca.fingerprint256)
  assert.notEqual(after.leaf.fingerprint256, before.leaf.fingerprint256)
  assert.ok(after.leaf.validToDate.getTime() > NOW + 130 * DAY)
})

test('own authority: another name is in the next certificate, and files that are cut or gone are made anew', t => {
  const folder = temporaryFolder(t), { caFile, certFile } = ownAuthorityFiles(folder)
  keepOwnCertificate(folder, NAMES, NOW)
  const { ca } = readPair(folder)
  assert.equal(keepOwnCertificate(folder, [...NAMES, '*.dev.test'], NOW), true)
  assert.equal(readPair(folder).leaf.checkHost('a.dev.test'), '*.dev.test')
  assert.equal(keepOwnCertificate(folder, NAMES, NOW), false, 'one more is no fault')
  rmSync(caFile)
  writeFileSync(certFile, readFileSync(certFile).subarray(0, 300))
  assert.equal(keepOwnCertificate(folder, NAMES, NOW), true)
  assert.equal(readPair(folder).ca.fingerprint256, ca.fingerprint256)
  writeFileSync(path.join(folder, 'authority.pem'), 'nonsense')
  assert.equal(keepOwnCertificate(folder, NAMES, NOW), true)
  const { ca: next, leaf } = readPair(folder)
  assert.notEqual(next.fingerprint256, ca.fingerprint256)
  assert.ok(leaf.checkIssued(next) && leaf.verify(next.publicKey))
})

test('own authority: an authority in its last year makes way for another', t => {
  const folder = temporaryFolder(t)
  keepOwnCertificate(folder, NAMES, NOW)
  const { ca } = readPair(folder)
  keepOwnCertificate(folder, NAMES, NOW + 9.1 * 365 * DAY)
  assert.notEqual(readPair(folder).ca.fingerprint256, ca.fingerprint256)
})

test('own authority: a folder that cannot be written is told as it is', t => {
  const folder = temporaryFolder(t)
  writeFileSync(path.join(folder, 'file'), '')
  assert.throws(() => keepOwnCertificate(path.join(folder, 'file'), NAMES, NOW), /ENOTDIR/)
  chmodSync(folder, 0o700)
})
