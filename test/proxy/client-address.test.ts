import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { HeaderMap } from '../../src/http/header-map.ts'
import { clientBehind } from '../../src/proxy/client-address.ts'
import { ExchangeBench } from '../support/exchange-bench.ts'

const HOPS = new net.BlockList()
HOPS.addSubnet('10.0.0.0', 8, 'ipv4')
HOPS.addSubnet('fd00::', 8, 'ipv6')

function client(field: 'x-forwarded-for' | 'forwarded', ...lines: string[]): string {
  return clientBehind('10.0.0.1', HeaderMap.from(lines.map(line => [field, line] as const)), field, HOPS)
}

test('client address: the last address that is no trusted hop, whatever stands before it', () => {
  const table: readonly (readonly [string[], string])[] = [
    [[], '10.0.0.1'], [[''], '10.0.0.1'], [['203.0.113.9'], '203.0.113.9'],
    [['198.51.100.7, 203.0.113.9'], '203.0.113.9'], [['203.0.113.9, 10.0.0.2, 10.0.0.3'], '203.0.113.9'],
    [['198.51.100.7', '203.0.113.9,10.0.0.2'], '203.0.113.9'], [['203.0.113.9', '10.0.0.2'], '203.0.113.9'],
    [['10.0.0.4, 10.0.0.2'], '10.0.0.4'], [['203.0.113.9, , '], '203.0.113.9'],
    [['203.0.113.9:4711'], '203.0.113.9'], [['[2001:db8::1]:443'], '2001:db8::1'], [['2001:db8::1, fd00::2'], '2001:db8::1'],
    [['203.0.113.9, unknown'], '10.0.0.1'], [['203.0.113.9, _hidden, 10.0.0.2'], '10.0.0.2'],
    [['1.2.3.4.5'], '10.0.0.1'], [['"><script>, 203.0.113.9'], '203.0.113.9'],
  ]
  for (const [lines, expected] of table) assert.equal(client('x-forwarded-for', ...lines), expected, lines.join(' | '))
})

test('client address: one client has one address, in whichever way a hop writes it', () => {
  for (const written of ['2001:DB8::1', '2001:0db8:0:0:0:0:0:1', '[2001:db8:0::1]', '[2001:DB8::0001]:443', '2001:db8::1%eth0']) {
    assert.equal(client('x-forwarded-for', written), '2001:db8::1', written)
    assert.equal(client('forwarded', `for="${written}"`), '2001:db8::1', written)
  }
  const mapped = ['::ffff:203.0.113.9', '::FFFF:cb00:7109', '[0:0:0:0:0:ffff:203.0.113.9]:80', '::ffff:203.0.113.9, ::ffff:10.0.0.2']
  for (const written of mapped) {
    assert.equal(client('x-forwarded-for', written), '203.0.113.9', written)
  }
  assert.equal(client('x-forwarded-for', '::ffff:0:1'), '0.0.0.1')
  assert.equal(client('x-forwarded-for', '::ffff:0:0:1'), '::ffff:0:0:1')
})

test('client address: Forwarded is read the same way', () => {
  const table: readonly (readonly [string[], string])[] = [
    [['for=203.0.113.9'], '203.0.113.9'], [['proto=https;For="[2001:db8::1]:443";by=x'], '2001:db8::1'],
    [['for=198.51.100.7, for=203.0.113.9;proto=http, for=10.0.0.2'], '203.0.113.9'],
    [['for=unknown'], '10.0.0.1'], [['proto=https'], '10.0.0.1'], [['xfor=1.2.3.4'], '10.0.0.1'],
    [['for=203.0.113.9', 'for="10.0.0.2:80"'], '203.0.113.9'],
  ]
  for (const [lines, expected] of table) assert.equal(client('forwarded', ...lines), expected, lines.join(' | '))
})

test('client address: a client never chooses it, for what the nearest hop saw counts', () => {
  const anything = fc.string({ unit: fc.constantFrom('1', '0', '.', ',', ':', ' ', '[', ']', '"', 'f'), maxLength: 40 })
  fc.assert(fc.property(anything, fc.integer({ min: 0, max: 5 }), (sent, hops) => {
    const chain = [sent, '203.0.113.9', ...Array.from({ length: hops }, (_, at) => `10.0.0.${at + 2}`)].join(', ')
    assert.equal(client('x-forwarded-for', chain), '203.0.113.9')
  }))
})

test('client address: what hooks, access log and tracers are told is the client, and the peer is the hop', async () => {
  const seen: string[] = []
  const hooks = {
    requestFilter(session: { clientIp: string; request: { headers: HeaderMap }; respond(status: number): 'responded' }) {
      session.request.headers.delete('x-forwarded-for')
      seen.push(session.clientIp)
      return session.respond(204)
    },
  }
  for (const [trustedHops, expected] of [[['127.0.0.1'], '203.0.113.9'], [[], '127.0.0.1']] as const) {
    const bench = new ExchangeBench(hooks, { trustedHops })
    await bench.send('GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 127.0.0.1, 203.0.113.9\r\n\r\n')
    const [line] = bench.lines, [ended] = bench.told.ended
    assert.deepEqual([line!.client, ended!.clientIp, seen.at(-1)], [expected, expected, expected])
    assert.deepEqual([line!.peer, ended!.client.remoteIp], [trustedHops.length === 0 ? '' : '127.0.0.1', '127.0.0.1'])
    bench.close()
  }
})
