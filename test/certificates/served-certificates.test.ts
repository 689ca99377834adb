import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mostUrgent, servedWithin, type CertificateOutcome, type ServedCertificate } from '../../src/certificates/served-certificates.ts'

function served(file: string, notAfter: number, outcome: CertificateOutcome = 'first'): ServedCertificate {
  return {
    listener: 'l', names: ['a.test'], moreNames: 0, file, keyFile: '', issuer: 'CN=x', keyType: 'ec', fingerprint: 'AB',
    notBefore: 0, notAfter, outcome, since: 0, reason: '',
  }
}

test('served certificates: what needs somebody comes first, then what ends first', () => {
  const fine = [served('late', 9), served('soon', 1), served('next', 2, 'swapped')]
  const all = [...fine, served('bad', 5, 'refused'), served('half', 7, 'changing')]
  assert.deepEqual(all.toSorted(mostUrgent).map(({ file }) => file), ['bad', 'half', 'soon', 'next', 'late'])
})

test('served certificates: what fits into a message is the most urgent part, and the rest is counted', () => {
  const all = Array.from({ length: 1_000 }, (_, index) => served(`f${index}`, 1_000 - index))
  const one = Buffer.byteLength(JSON.stringify(all[0])) + 1
  const { certificates, more } = servedWithin(all, one * 10 + 20)
  assert.equal(certificates.length + more, 1_000)
  assert.ok(certificates.length >= 9 && certificates.length <= 11)
  assert.equal(certificates[0]!.file, 'f999')
  assert.deepEqual(servedWithin(all.slice(0, 3), 1e6).more, 0)
  assert.deepEqual(servedWithin([], 10), { certificates: [], more: 0 })
})
