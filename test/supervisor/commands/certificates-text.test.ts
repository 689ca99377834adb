import assert from 'node:assert/strict'
import test from 'node:test'
import type { CertificatesOfAll } from '../../../src/certificates/served-certificates.ts'
import { certificatesText } from '../../../supervisor/commands/certificates-text.ts'

const DAY = 86_400_000
const NOW = Date.UTC(2026, 0, 1)
type Row = CertificatesOfAll['certificates'][number]

const ROW: Row = {
  listener: 'web/:443', names: ['a.test', '*.a.test'], moreNames: 0, file: '/a.crt', keyFile: '/a.key', issuer: 'O=X, CN=Root',
  keyType: 'ec', fingerprint: 'AB:CD', notBefore: NOW - DAY, notAfter: NOW + 90 * DAY, outcome: 'first', since: NOW - 3 * DAY,
  reason: '', workers: ['1.0.0', '1.1.0'],
}

function shown(row: Partial<Row>, more: Partial<CertificatesOfAll> = {}): string {
  return certificatesText({ certificates: [{ ...ROW, ...row }], more: 0, workers: ['1.0.0', '1.1.0'], silent: [], tls: true, ...more }, NOW)
}

test('certificates text: a block has all that there is to know', () => {
  assert.equal(shown({}), [
    'a.test *.a.test', '  listener     web/:443', '  ends         2026-04-01T00:00:00Z, in 90 days', '  issuer       O=X, CN=Root',
    '  key          ec', '  SHA-256      AB:CD', '  file         /a.crt', '  key file     /a.key',
    '  state        read 3 days ago, not swapped since',
  ].join('\n'))
})

test('certificates text: what is near its end, over, or not yet valid is said loudly', () => {
  assert.match(shown({ notAfter: NOW + 30 * DAY }), /2026-01-31T00:00:00Z, SOON: in 30 days/)
  assert.match(shown({ notAfter: NOW + 3_600_000 }), /SOON: in 1h0m/)
  assert.match(shown({ notAfter: NOW - 3 * DAY }), /2025-12-29T00:00:00Z, EXPIRED 3 days ago/)
  assert.match(shown({ notBefore: NOW + DAY }), /NOT VALID before 2026-01-02T00:00:00Z/)
})

test('certificates text: what became of the files, why, and in which workers', () => {
  assert.match(shown({ outcome: 'swapped', since: NOW - 61_000 }), /state {8}swapped 1m1s ago$/)
  const refused = shown({ outcome: 'refused', reason: 'no pair', since: NOW, workers: ['1.1.0'] })
  assert.match(refused, /state {8}REFUSED 0s ago; the one before is served\n {2}because {6}no pair\n {2}workers {6}1\.1\.0; not 1\.0\.0$/)
  assert.match(shown({ outcome: 'changing' }), /no good pair yet/)
  assert.match(shown({ outcome: 'molten' as Row['outcome'] }), /molten 3 days ago/, 'of a newer build')
})

test('certificates text: names that are many or none, text in place of files, and what a terminal must not see', () => {
  assert.match(shown({ moreNames: 7 }), /^a\.test \*\.a\.test and 7 more\n/)
  assert.match(shown({ names: [] }), /^no name; it is the default\n/)
  assert.match(shown({ file: '', keyFile: '' }), /file {9}none: the application gave it as text\n {2}state/)
  assert.doesNotMatch(shown({ file: '/same.pem', keyFile: '/same.pem' }), /key file/)
  assert.match(shown({ issuer: 'CN=\u001B[2J' }), /CN=\\x1b\[2J/)
})

test('certificates text: nothing there, something left out, and workers that are silent', () => {
  assert.equal(shown({}, { tls: false }), 'no listener speaks TLS')
  assert.equal(certificatesText({ certificates: [], more: 0, workers: [], silent: [], tls: true }, NOW), 'no certificate is served')
  assert.match(shown({}, { more: 3 }), /\n\nand 3 more, which end later$/)
  assert.match(shown({}, { silent: [{ worker: '1.1.0', reason: 'late' }] }), /\n\nworker 1\.1\.0 has not answered: late$/)
})
