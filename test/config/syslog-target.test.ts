import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FACILITIES, parseSyslogTarget, SYSLOG_FORMS, syslogRemedy } from '../../src/config/syslog-target.ts'

const PLAIN = { path: '', host: '', port: 0, facility: 23, tag: 'cirque' }

test('syslog target: address, facility and tag are read', () => {
  const table: readonly (readonly [string, object])[] = [
    ['syslog:unix:/dev/log', { ...PLAIN, name: 'syslog:unix:/dev/log', transport: 'unix', path: '/dev/log' }],
    ['syslog:udp:10.0.0.5:514', { ...PLAIN, name: 'syslog:udp:10.0.0.5:514', transport: 'udp', host: '10.0.0.5', port: 514 }],
    ['syslog:tcp:logs.example-1.com:601?facility=local0&tag=edge-1', {
      name: 'syslog:tcp:logs.example-1.com:601', transport: 'tcp', path: '', host: 'logs.example-1.com', port: 601, facility: 16,
      tag: 'edge-1',
    }],
    ['syslog:udp:[2001:db8::5]:514?tag=a', {
      ...PLAIN, name: 'syslog:udp:[2001:db8::5]:514', transport: 'udp', host: '2001:db8::5', port: 514, tag: 'a',
    }],
    ['syslog:unix:/dev/log?facility=daemon', { ...PLAIN, name: 'syslog:unix:/dev/log', transport: 'unix', path: '/dev/log', facility: 3 }],
  ]
  for (const [text, target] of table) assert.deepEqual(parseSyslogTarget(text), target, text)
})

test('syslog target: what is none is refused with what would do', () => {
  const host = (transport: string): string => `host and port, such as syslog:${transport}:10.0.0.5:514 or syslog:${transport}:[::1]:514`
  const addresses = [
    '10.0.0.5', '10.0.0.5:', '10.0.0.5:0', '10.0.0.5:65536', '10.0.0.5:x', ':514', '::1:514', '[::1]', '[10.0.0.5]:514', 'a b:514',
    '-a:514',
  ]
  const table: readonly (readonly [string, string])[] = [
    ['syslog:', SYSLOG_FORMS], ['syslog:/dev/log', SYSLOG_FORMS], ['syslog:tls:a:1', SYSLOG_FORMS], ['syslog:udp:', SYSLOG_FORMS],
    ['syslog:unix:dev/log', 'the absolute path of a socket, of at most 107 bytes, such as syslog:unix:/dev/log'],
    [`syslog:unix:/${'x'.repeat(107)}`, 'the absolute path of a socket, of at most 107 bytes, such as syslog:unix:/dev/log'],
    ...addresses.map(address => [`syslog:udp:${address}`, host('udp')] as const),
    ['syslog:tcp:a', host('tcp')],
    ['syslog:udp:a:1?facility=locl0', 'facility=local0'],
    ['syslog:udp:a:1?facility=', `facility=${Object.keys(FACILITIES).join(', ')}`],
    ['syslog:udp:a:1?facility=constructor', `facility=${Object.keys(FACILITIES).join(', ')}`],
    ['syslog:udp:a:1?tag=', 'tag= with 1 to 48 characters of ASCII without blanks'],
    ['syslog:udp:a:1?tag=a b', 'tag= with 1 to 48 characters of ASCII without blanks'],
    ['syslog:udp:a:1?tg=a', 'tag behind the ?, such as ?facility=local0&tag=edge'],
    ['syslog:udp:a:1?severity=info', 'facility and tag behind the ?, such as ?facility=local0&tag=edge'],
  ]
  for (const [text, remedy] of table) assert.equal(syslogRemedy(text), remedy, text)
})

test('syslog target: whatever is written, it is a target or a remedy', () => {
  const piece = fc.constantFrom('unix', 'udp', 'tcp', ':', '/', '[', ']', '?', '&', '=', 'facility', 'tag', 'local0', '1', 'a', '::1', ' ')
  fc.assert(fc.property(fc.array(piece, { maxLength: 14 }), pieces => {
    const target = parseSyslogTarget(`syslog:${pieces.join('')}`)
    if (typeof target === 'string') assert.notEqual(target, '')
    else assert.ok(target.transport === 'unix' ? target.path.startsWith('/') : target.host !== '' && target.port > 0)
  }), { numRuns: 2000 })
})
