import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { HeaderMap } from '../../src/http/header-map.ts'
import { RequestHead, ResponseHead, type HttpVersion } from '../../src/http/message-head.ts'
import type { TlsFacts } from '../../src/protocols/byte-stream.ts'
import { ForwardedFields, stripForwarded } from '../../src/proxy/forwarded-fields.ts'
import type { ForwardedOptions } from '../../src/proxy/forwarded-options.ts'

function make(
  options: ForwardedOptions, ip: string, fields: Record<string, string | string[]> = {}, tls: TlsFacts | null = null,
): { head: RequestHead; sent: HeaderMap } {
  const forwarded = new ForwardedFields({ via: 'both', viaName: 'edge', ...options })
  const facts = forwarded.factsOf({ remoteIp: ip, tls }, false)
  const head = RequestHead.build('GET', '/', HeaderMap.from({ Host: 'a.example', ...fields }))
  if (!facts.trusted) stripForwarded(head.headers)
  const requestId = forwarded.requestIdFor(head, facts)
  const { text } = forwarded.linesFor(head, facts, { requestId, request: head })
  const lines = (head.headers.serialize(0, null) + text).split('\r\n').filter(line => line !== '')
  return { head, sent: HeaderMap.from(lines.map(line => line.split(': ') as [string, string])) }
}

test('forwarded fields: the origin is told who asked, how, for whom, by what name and way', () => {
  const { sent } = make({}, '192.0.2.1')
  assert.equal(sent.get('x-forwarded-for'), '192.0.2.1')
  assert.equal(sent.get('x-forwarded-proto'), 'http')
  assert.equal(sent.get('x-forwarded-host'), 'a.example')
  assert.equal(sent.get('via'), '1.1 edge')
  assert.match(sent.get('x-request-id')!, /^[0-9a-f]{24}$/)
  assert.equal(sent.has('forwarded'), false)
})

test('forwarded fields: what an untrusted client says of itself is not passed on', () => {
  const { sent } = make({}, '192.0.2.1', {
    'X-Forwarded-For': ['10.0.0.1', '10.0.0.2'],
    'Forwarded': 'for=10.0.0.1',
    'X-Real-IP': '10.0.0.1',
    'X-Forwarded-Proto': 'https',
    'X-Forwarded-Prefix': '/x',
    'X-Request-Id': 'mine',
  })
  assert.deepEqual(sent.getAll('x-forwarded-for'), ['192.0.2.1'])
  const passedOn = [...sent].filter(([name, value]) => {
    const isTheirId = name.toLowerCase() === 'x-request-id' && value === 'mine'
    return value.includes('10.0.0') || value === 'https' || value === '/x' || isTheirId
  })
  assert.deepEqual(passedOn, [])
})

test('forwarded fields: the chain of a trusted hop is continued, and its id kept', () => {
  const { sent } = make({ trustedHops: ['192.0.2.0/24'], forwarded: 'both' }, '192.0.2.1', {
    'X-Forwarded-For': ['10.0.0.1', '10.0.0.2'],
    'Forwarded': 'for=10.0.0.1',
    'X-Forwarded-Proto': 'https',
    'X-Request-Id': 'mine',
  })
  assert.deepEqual(sent.getAll('x-forwarded-for'), ['10.0.0.1, 10.0.0.2, 192.0.2.1'])
  assert.deepEqual(sent.getAll('forwarded'), ['for=10.0.0.1, for=192.0.2.1;proto=http'])
  assert.deepEqual(sent.getAll('x-forwarded-proto'), ['https'])
  assert.deepEqual(sent.getAll('x-request-id'), ['mine'])
})

test('forwarded fields: an id that is long or no token is replaced, also that of a trusted hop', () => {
  for (const given of ['a b', 'x'.repeat(129), 'a"b']) {
    const { sent } = make({ trustedHops: ['192.0.2.1'] }, '192.0.2.1', { 'X-Request-Id': given })
    assert.notEqual(sent.get('x-request-id'), given)
  }
})

test('forwarded fields: an IPv6 client stands in brackets and quotes in Forwarded, plain in X-Forwarded-For', () => {
  const { sent } = make({ forwarded: 'both' }, '2001:db8::1')
  assert.equal(sent.get('forwarded'), 'for="[2001:db8::1]";proto=http')
  assert.equal(sent.get('x-forwarded-for'), '2001:db8::1')
})

test('forwarded fields: the zone of a client is a name for an interface of this machine, and not passed on', () => {
  const { sent } = make({ forwarded: 'both', trustedHops: ['fe80::/10'] }, 'fe80::1%eth0', { 'X-Forwarded-For': '192.0.2.1' })
  assert.equal(sent.get('x-forwarded-for'), '192.0.2.1, fe80::1')
  assert.equal(sent.get('forwarded'), 'for="[fe80::1]";proto=http')
})

test('forwarded fields: each has its option', () => {
  const { sent } = make({ forwarded: 'off', via: 'off', loopName: null, requestId: false }, '192.0.2.1')
  assert.deepEqual([...sent], [['Host', 'a.example']])
})

test('forwarded fields: an address that the kernel did not tell is neither trusted nor sent', () => {
  const { sent } = make({ trustedHops: ['0.0.0.0/0', '::/0'] }, '', { 'X-Forwarded-For': '10.0.0.1' })
  assert.equal(sent.has('x-forwarded-for'), false)
})

test('forwarded fields: ids of one process differ', () => {
  const forwarded = new ForwardedFields()
  const facts = forwarded.factsOf({ remoteIp: '192.0.2.1', tls: null }, false)
  const head = RequestHead.build('GET', '/')
  const ids = Array.from({ length: 70_000 }, () => forwarded.requestIdFor(head, facts))
  // 8 random bytes, and a number that sorts as text.
  assert.deepEqual(ids.map(id => id.slice(16)), ids.map((_, index) => (index + 1).toString(16).padStart(8, '0')))
  assert.deepEqual([...new Set(ids.map(id => id.slice(0, 16)))].map(prefix => /^[\da-f]{16}$/.test(prefix)), [true])
})

test('forwarded fields: an origin gets no Via unless it is asked for, a client does', () => {
  const sentWith = (options: ForwardedOptions): (string | undefined)[] => {
    const forwarded = new ForwardedFields(options), head = RequestHead.build('GET', '/')
    const lines = forwarded.linesFor(head, forwarded.factsOf({ remoteIp: '', tls: null }, false), { requestId: '1', request: head })
    const answered = forwarded.linesForResponse(new ResponseHead(200, '', '1.1', new HeaderMap()))
    return [lines.text, answered.text].map(text => /^Via: (.*)$/m.exec(text)?.[1]?.trim())
  }
  assert.deepEqual(sentWith({}), [undefined, '1.1 cirque'])
  assert.deepEqual(sentWith({ via: 'both', viaName: 'edge' }), ['1.1 edge', '1.1 edge'])
  assert.deepEqual(sentWith({ via: 'off' }), [undefined, undefined])
  assert.deepEqual(sentWith({ via: 'both', viaName: '' }), [undefined, undefined])
})

for (const [what, options] of [
  ['a name', { trustedHops: ['proxy.example'] }],
  ['a prefix that is too long', { trustedHops: ['10.0.0.0/33'] }],
  ['an empty prefix', { trustedHops: ['10.0.0.0/'] }],
  ['a negative prefix', { trustedHops: ['::1/-1'] }],
  ['a Via name with a blank', { viaName: 'a b' }],
  ['a loop name with a parameter', { loopName: 'edge; id=1' }],
] as const) {
  test(`forwarded fields: ${what} is refused when the service is made`, () => assert.throws(() => new ForwardedFields(options), TypeError))
}

test('forwarded fields: a client that came by TLS is told of as https, in both styles', () => {
  const tls: TlsFacts = {
    version: 'TLSv1.3', cipher: 'TLS_AES_128_GCM_SHA256', alpn: '', serverName: 'a.example', resumed: false, handshakeMs: 1, client: null,
  }
  const { sent } = make({ forwarded: 'both' }, '192.0.2.1', {}, tls)
  assert.equal(sent.get('x-forwarded-proto'), 'https')
  assert.equal(sent.get('forwarded'), 'for=192.0.2.1;proto=https')
})

test('forwarded fields: Via names the version in which each message came', () => {
  const forwarded = new ForwardedFields({ via: 'both', viaName: 'edge' }), facts = forwarded.factsOf({ remoteIp: '', tls: null }, false)
  const viaOf = (version: HttpVersion): string => {
    const head = new RequestHead('GET', '/', version, new HeaderMap())
    const lines = forwarded.linesFor(head, facts, { requestId: '1', request: head })
    const names = Array.from({ length: lines.size }, (_, index) => lines.nameAt(index))
    return lines.valueAt(names.indexOf('Via'))
  }
  assert.deepEqual((['1.1', '1.0', '2', '1.1'] as const).map(viaOf), ['1.1 edge', '1.0 edge', '2 edge', '1.1 edge'])
  assert.equal(forwarded.linesForResponse(new ResponseHead(200, '', '1.0', new HeaderMap())).text, 'Via: 1.0 edge\r\n')
})

const needsRoot = process.getuid?.() === 0 ? false : 'only root may become another user'
test('forwarded fields: a user without a line in /etc/passwd has a name for Via, too', { skip: needsRoot }, () => {
  const module = new URL('../../src/proxy/forwarded-fields.ts', import.meta.url).href
  const program = `const { ForwardedFields } = await import(${JSON.stringify(module)}); new ForwardedFields({}); console.log('made')`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
    uid: 54_321, gid: 54_321, cwd: '/', encoding: 'utf8',
  })
  assert.equal(stdout, 'made\n', stderr)
})
