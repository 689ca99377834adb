import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sectionSchema } from '../../src/config/option-schema.ts'
import { SECTIONS } from '../../src/config/server-config.ts'
import { allowedValues, exampleOf, readWritten, writable, writtenKey, writtenValue } from '../../src/config/written-options.ts'
import { TRANSPORT_CONNECTOR_OPTIONS } from '../../src/connector/transport-options.ts'
import { LOAD_BALANCER_OPTIONS } from '../../src/load-balancing/load-balancer.ts'
import { HTTP_HEALTH_CHECK_OPTIONS } from '../../src/load-balancing/health-check.ts'
import { HTTP_PEER_OPTIONS } from '../../src/peer/http-peer.ts'
import { count, countOr, duration, flag, number, rate, size, text, type AnyOptionTable } from '../../src/primitives/option-table.ts'

test('written options: a key loses its unit, wherever it stands', () => {
  assert.deepEqual([
    writtenKey('hardDrainMs', duration(1)), writtenKey('backoffMsMax', duration(1)),
    writtenKey('maxHeadBytes', size(1)), writtenKey('minBodyBytesPerSecond', rate(1)), writtenKey('maxItems', count(1)),
  ], ['hardDrain', 'backoffMax', 'maxHead', 'minBodyPerSecond', 'maxItems'])
})

test('written options: a value gets its unit, and an example is never 0', () => {
  assert.deepEqual(
    [
      writtenValue(duration(1), 90_000), writtenValue(size(1), 65_536), writtenValue(count(1), 3),
      writtenValue(text('', 'a name'), ''), writtenValue(flag(true), true),
    ],
    ['90s', '64KiB', '3', "''", 'true'],
  )
  assert.deepEqual([exampleOf(duration(0)), exampleOf(duration(5000)), exampleOf(size(0))], ['30s', '5s', '64KiB'])
})

test('written options: the documentation says which values are allowed', () => {
  const allowed = (option: Parameters<typeof allowedValues>[0]): string => allowedValues(option, name => `section.${name}`)
  assert.equal(allowed(duration(1)), 'more than `0`')
  assert.equal(allowed(duration(1, { zero: 'turns it off' })), '`0` or more')
  assert.equal(allowed(duration(0, { min: 1000, zero: 'sends none' })), '`0`, or `1s` or more')
  assert.equal(allowed(duration(1, { atLeast: 'waitMs' })), '`section.waitMs` or more')
  assert.equal(allowed(countOr('auto', { max: 256 })), '`auto`, or `1` to `256`')
  assert.equal(allowed(number(0, 0, 1)), '`0` to `1`')
  assert.equal(allowed(size(1, { min: 1024 })), '`1KiB` or more')
})

/** Reads a section as the file would have it. */
function read(table: AnyOptionTable, section: object): unknown {
  const { success, data, error } = sectionSchema(table).safeParse(section)
  return success ? readWritten(writable(table), data) : error.issues.map(issue => `${issue.path.join('.')}: ${issue.message}`)
}

test('written options: any table can be written in a file, tables within it included, without what only code can give', () => {
  assert.deepEqual(
    read(HTTP_PEER_OPTIONS, {
      readTimeout: '5s', maxReplay: '128KiB', maxAttempts: '2', localAddress: '127.0.0.1', tcpKeepAliveIdle: '10s',
      alpn: 'h1', idleTimeout: 0,
    }),
    {
      readTimeoutMs: 5000, maxReplayBytes: 131_072, maxAttempts: 2, localAddress: '127.0.0.1',
      tcpKeepAliveIdleMs: 10_000, alpn: 'h1', idleTimeoutMs: 0,
    },
  )
  assert.deepEqual(
    read(LOAD_BALANCER_OPTIONS, { selection: 'ketama', maxFails: 0, failTimeout: '30s', preferredFamily: '6' }),
    { selection: 'ketama', maxFails: 0, failTimeoutMs: 30_000, preferredFamily: 6 },
  )
  assert.deepEqual(read(HTTP_HEALTH_CHECK_OPTIONS, { interval: '2s', path: '/live', tls: { verifyCert: false } }), {
    intervalMs: 2000, path: '/live', tls: { verifyCert: false },
  })
  assert.deepEqual(read(HTTP_PEER_OPTIONS, { customL4: {} }), [': a section with keys'], 'no such key in a file')
  assert.deepEqual(read(HTTP_PEER_OPTIONS, { connectProxy: { nextHop: 'proxy.test:3128' } }), {
    connectProxy: { nextHop: 'proxy.test:3128' },
  })
  assert.deepEqual(read(TRANSPORT_CONNECTOR_OPTIONS, { bindToV4: ['10.0.0.1'] }), { bindToV4: ['10.0.0.1'] })
  assert.deepEqual(read(TRANSPORT_CONNECTOR_OPTIONS, { bindToV4: ['::1'] }), ['bindToV4: IPv4 addresses only, not "::1"'])
  assert.deepEqual(read(HTTP_PEER_OPTIONS, { tcpKeepAliveIdle: '500ms', localAddress: 'here' }), [
    "localAddress: '' or an IP address", 'tcpKeepAliveIdle: a duration with a unit (ms, s, m, h, d) of at least 1s, such as 30s, or 0',
  ])
})

test('written options: every section of the configuration can be written whole, as its defaults are', () => {
  for (const { name, table } of SECTIONS) {
    const defaults = Object.fromEntries(Object.entries(table).map(([field, option]) => [field, option.default]))
    const section = Object.fromEntries(Object.entries(table).map(([field, option]) => [
      writtenKey(field, option), writtenValue(option, option.default).replace(/^''$/, ''),
    ]))
    assert.deepEqual(read(table, section), defaults, name)
  }
})
