import assert from 'node:assert/strict'
import { test } from 'node:test'
import { faultOf } from '../../scripts/interop/main.ts'
import { faultsOfScan, judge } from '../../scripts/interop/policy.ts'

const curl = { name: 'curl' }

test('interop: what the edge has counted decides whether a connection was kept or a session taken up', () => {
  assert.equal(faultOf('get', curl, { full: 1, resumed: 0, failed: [] }), '')
  assert.equal(faultOf('get', curl, { full: 0, resumed: 0, failed: [] }), 'no handshake')
  assert.equal(faultOf('keep-alive', curl, { full: 1, resumed: 0, failed: [] }), '')
  assert.equal(faultOf('keep-alive', curl, { full: 2, resumed: 3, failed: [] }), '5 connections instead of 1')
  assert.equal(faultOf('resumption', curl, { full: 1, resumed: 1, failed: [] }), '')
  assert.equal(faultOf('resumption', curl, { full: 2, resumed: 0, failed: [] }), '2 full and 0 resumed handshakes instead of 1 and 1')
  assert.equal(faultOf('resumption', { name: 'Chromium' }, { full: 2, resumed: 6, failed: [] }), '')
  assert.equal(faultOf('resumption', { name: 'Chromium' }, { full: 8, resumed: 0, failed: [] }), '8 full and 0 resumed handshakes')
  assert.equal(faultOf('post', curl, { full: 1, resumed: 0, failed: ['client-alert'] }), 'handshakes failed: client-alert')
})

test('interop: a finding above LOW is a fault, unless it is about the certificate of the run', () => {
  const findings = [
    ['TLS1_2', 'OK'], ['HSTS', 'LOW'], ['BREACH', 'MEDIUM'], ['cert_revocation <cert#1>', 'HIGH'], ['ROBOT', 'CRITICAL'],
  ].map(([id = '', severity = '']) => ({ id, severity, finding: '' }))
  const { faults, notOurs } = judge(findings)
  assert.deepEqual(faults.map(({ id }) => id), ['BREACH', 'ROBOT'])
  assert.deepEqual(notOurs.map(({ id }) => id), ['cert_revocation <cert#1>'])
})

test('interop: versions below TLS 1.2, and ciphers without forward secrecy, are faults', () => {
  const good = 'SSLv3     disabled\nTLSv1.0   disabled\nTLSv1.1   disabled\nTLSv1.2   enabled\nTLSv1.3   enabled\n' +
    'Preferred TLSv1.2  128 bits  ECDHE-ECDSA-AES128-GCM-SHA256 Curve 25519 DHE 253\n'
  assert.deepEqual(faultsOfScan(good), [])
  const bad = good.replace('TLSv1.1   disabled', 'TLSv1.1   enabled').replace('TLSv1.3   enabled', 'TLSv1.3   disabled')
  assert.deepEqual(faultsOfScan(`${bad}Accepted  TLSv1.2  128 bits  AES128-SHA\n`), [
    'TLSv1.1 is enabled', 'TLSv1.3 is disabled', 'the cipher AES128-SHA',
  ])
})
