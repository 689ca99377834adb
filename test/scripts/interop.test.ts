import assert from 'node:assert/strict'
import { test } from 'node:test'
import { faultsOfRun, readReport } from '../../scripts/interop/h2spec.ts'
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

test('interop: a case of h2spec that failed is a fault, but for the one that a port of HTTP/1 answers', () => {
  const testCase = (at: number, body = ''): string => `<testcase package="http2/${at}" classname="Sends &#34;${at}&#34;">${body}</testcase>`
  const passed = Array.from({ length: 144 }, (_, at) => testCase(at)).join('')
  const preface = '<testcase package="http2/3.5" classname="Sends invalid connection preface"><error>EOF</error></testcase>'
  const result = readReport(`${passed}${testCase(6, '<failure>GOAWAY\n</failure>')}${preface}`)
  assert.deepEqual(result, { cases: 146, passed: 144, failed: ['http2/6 Sends "6"', 'http2/3.5 Sends invalid connection preface'] })
  assert.deepEqual(faultsOfRun(result, ''), result.failed)
  assert.deepEqual(faultsOfRun(result, 'HTTP/1.1 400 Bad Request\r\n'), ['http2/6 Sends "6"'])
  assert.deepEqual(faultsOfRun(readReport(testCase(1)), ''), ['only 1 cases were run'])
})
