import assert from 'node:assert/strict'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import http2 from 'node:http2'
import net from 'node:net'
import path from 'node:path'
import { test } from 'node:test'
import tls from 'node:tls'
import { CertificateError, type GivenCertificate } from '../../src/certificates/certificate-entry.ts'
import { DRAIN_DEFAULTS } from '../../src/config/supervisor-options.ts'
import { HttpPeer, httpProxyService } from '../../src/index.ts'
import { drainOrder } from '../../src/ipc/drain-times.ts'
import { OptionError } from '../../src/primitives/option-table.ts'
import { makeTicketKey, setTicketKeys, ticketKeys } from '../../src/protocols/tls/ticket-keys.ts'
import { SERVER_CONTEXT_DEFAULTS } from '../../src/server/server-context.ts'
import { answerOk, ScriptedOrigin } from '../support/scripted-origin.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { makeTestCa, writeCertificate, type TestCertificate } from '../support/test-ca.ts'
import { gone, helloOf, TlsProxy } from '../support/tls-proxy.ts'
import { waitFor } from '../support/wait-for.ts'

const ca = makeTestCa()
const site = ca.issue({ names: ['a.test'] }), wild = ca.issue({ names: ['*.b.test'] }), deep = ca.issue({ names: ['x.b.test'] })
const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const

test('TLS listener: the name chooses the certificate, in both versions; requests are https', async t => {
  const proxy = await TlsProxy.start(t, { certificates: [site, wild, deep] })
  const expected: [name: string, certificate: string][] = [
    ['a.test', 'a.test'], ['x.b.test', 'x.b.test'], ['y.b.test', '*.b.test'], ['z.y.b.test', 'a.test'], ['c.test', 'a.test'],
    ['', 'a.test'], ['A.Test', 'a.test'],
  ]
  for (const maxVersion of VERSIONS) {
    for (const [name, certificate] of expected) {
      const answer = await proxy.get(name, { maxVersion })
      assert.deepEqual([answer.status, answer.certificate], [200, certificate], `${name} ${maxVersion}`)
      const { scheme, tls } = answer.facts!
      assert.deepEqual([scheme, tls.version, tls.serverName.toLowerCase()], ['https', maxVersion, name.toLowerCase()])
    }
  }
  assert.deepEqual(new Set(proxy.results), new Set(['ok']))
  const { client, durationMs, ...event } = proxy.handshakes[0]!
  assert.deepEqual(event, {
    listener: 'tls/127.0.0.1:0', result: 'ok', serverName: 'a.test', error: '', version: 'TLSv1.2', resumed: false,
  })
  assert.ok(client.remoteIp === '127.0.0.1' && durationMs > 0)
})

test('TLS listener: of two kinds of key the client has the one that it can check', async t => {
  const rsa = ca.issue({ names: ['a.test'], keyType: 'rsa' })
  const proxy = await TlsProxy.start(t, { certificates: [{ cert: [site.cert, rsa.cert], key: [site.key, rsa.key] }] })
  assert.equal((await proxy.get('a.test', { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-RSA-AES128-GCM-SHA256' })).status, 200)
  assert.equal((await proxy.get('a.test', { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256' })).status, 200)
})

test('TLS listener: what the client and we do not have in common is told with an alert, and counted by its kind', async t => {
  const proxy = await TlsProxy.start(t, { certificates: [site] })
  const errors = [
    await proxy.get('a.test', { ALPNProtocols: ['spdy/3'] }),
    await proxy.get('a.test', { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL@SECLEVEL=0' }),
    await proxy.get('a.test', { maxVersion: 'TLSv1.2', ciphers: 'AES128-SHA' }),
    await proxy.get('a.test', { ecdhCurve: 'P-521' }),
    await proxy.get('a.test', { ca: makeTestCa().cert, rejectUnauthorized: true }),
  ].map(({ error }) => error)
  assert.deepEqual(errors, [
    'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL', 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION', 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE',
    'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  ])
  await proxy.settled()
  assert.deepEqual(proxy.results.slice(0, 4), ['alpn', 'version', 'no-overlap', 'no-overlap'])
  // What clients bring about is no line for everybody.
  assert.deepEqual(proxy.lines.filter(({ level }) => level === 'error' || level === 'warn'), [])
})

test('TLS listener: the policy modern has TLS 1.3 alone', async t => {
  const proxy = await TlsProxy.start(t, { certificates: [site], policy: 'modern' })
  assert.equal((await proxy.get('a.test', { maxVersion: 'TLSv1.2' })).error, 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION')
  assert.equal((await proxy.get('a.test')).facts!.tls.version, 'TLSv1.3')
})

test('TLS listener: a request of plain HTTP is told that it came to the wrong place', async t => {
  const proxy = await TlsProxy.start(t, { certificates: [site] })
  const socket = await proxy.connect()
  let text = ''
  socket.on('data', data => { text += data })
  socket.write('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n')
  await once(socket, 'close')
  assert.match(text, /^HTTP\/1\.1 400 Bad Request\r\n[^]*Connection: close\r\n[^]*This port speaks TLS/)
  await proxy.settled()
  assert.deepEqual(proxy.results, ['plain-http'])
})

test('TLS listener: without a default, a name that none is for gets the alert for that', async t => {
  const proxy = await TlsProxy.start(t, { certificateFor: () => null })
  assert.equal((await proxy.get('a.test')).error, 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME')
  await proxy.settled()
  assert.deepEqual(proxy.results, ['unknown-name'])
})

test('TLS listener: mistakes of certificates and options are found before it listens', async t => {
  await assert.rejects(TlsProxy.start(t, { certificates: [{ cert: '/none.crt', key: '/none.key' }] }), (error: Error) => {
    return error instanceof CertificateError && /\/none\.crt cannot be read \(ENOENT\); use/.test(error.message)
  })
  await assert.rejects(TlsProxy.start(t, {}), /listener\.tls\.certificates .*; give at least one certificate, or certificateFor/)
  await assert.rejects(TlsProxy.start(t, { certificates: [site], groups: ['X448X'] }), /is refused by OpenSSL: /)
  await assert.rejects(TlsProxy.start(t, { certificates: [site], fips: true }), /listener\.tls\.fips is true; install a FIPS provider/)
  const service = httpProxyService({ newCtx: () => undefined, upstreamPeer() { throw new Error('none') } })
  const plain = /^listener\.tls is a value of type object; leave it out, or add the listener with addTls$/
  assert.throws(() => service.addTcp(':1', { tls: { certificates: [site] } }), (error: Error) => {
    return error instanceof OptionError && plain.test(error.message)
  })
  assert.throws(() => service.addTls(':1', { polizy: 'modern' } as object), /listener\.tls\.polizy is not an option; use policy/)
})

test('TLS listener: what the operator says counts over what code says, and of all listeners for those of TLS alone', async () => {
  const service = httpProxyService({ newCtx: () => undefined, upstreamPeer() { throw new Error('none') } }, { name: 'web' }) as never as {
    addTcp(address: string): unknown
    addTls(address: string, options: object): unknown
    listeners: { name: string; options: { tls: { policy: string; handshakeTimeoutMs: number } | null } }[]
    start(context: object): Promise<void>
    close(): void
  }
  service.addTcp(':8080')
  service.addTls(':8443', { certificates: [site], policy: 'modern' })
  const settings = {
    ...SERVER_CONTEXT_DEFAULTS.settings,
    listeners: { '*': { tls: { handshakeTimeoutMs: 5000 } }, 'web/:8443': { tls: { policy: 'intermediate' } } },
  }
  await service.start({ ...SERVER_CONTEXT_DEFAULTS, settings })
  const found = Object.fromEntries(service.listeners.map(({ name, options: { tls } }) => {
    return [name, tls && [tls.policy, tls.handshakeTimeoutMs]]
  }))
  assert.deepEqual(found['web/:8080'], null)
  assert.deepEqual([found['web/:8443'], found['web/:8443/v6']], [['intermediate', 5000], ['intermediate', 5000]])
  service.close()
})

test('TLS listener: an application gives certificates for further names, at once or later; its faults leave the default', async t => {
  const c = ca.issue({ names: ['c.test'] }), d = ca.issue({ names: ['d.test'] })
  const asked: string[] = []
  const proxy = await TlsProxy.start(t, {
    certificates: [site],
    certificateFor(name) {
      asked.push(name)
      switch (name) {
        case 'c.test': return c
        case 'd.test': return new Promise(resolve => { setImmediate(resolve, d) })
        case 'throws.test': throw new Error('planned')
        case 'rejects.test': return Promise.reject(new Error('planned'))
        case 'wrong.test': return { cert: c.cert, key: d.key }
        case 'odd.test': return 17 as never
        default: return null
      }
    },
  })
  const names = ['a.test', '', 'c.test', 'd.test', 'd.test', 'none.test', 'throws.test', 'rejects.test', 'wrong.test', 'odd.test']
  const found: string[] = [], statuses: number[] = []
  for (const name of names) {
    const { certificate, status } = await proxy.get(name)
    found.push(certificate)
    statuses.push(status)
  }
  assert.deepEqual(found, ['a.test', 'a.test', 'c.test', 'd.test', 'd.test', 'a.test', 'a.test', 'a.test', 'a.test', 'a.test'])
  // What the name would have asked of clients is not known after a fault.
  assert.deepEqual(statuses, [200, 200, 200, 200, 200, 200, 421, 421, 421, 421])
  assert.deepEqual(asked, names.slice(2))
  assert.equal(proxy.lines.filter(({ message }) => message.startsWith('certificateFor failed')).length, 1)
})

test('TLS listener: what a listener asks of clients changes for the names of the application as well', async t => {
  const folder = temporaryFolder(t), crl = path.join(folder, 'clients.crl')
  mkdirSync(folder, { recursive: true })
  writeFileSync(crl, ca.crl())
  const own = ca.issue({ names: ['c.test'] }), client = ca.issue({ names: ['client-1'] })
  const proxy = await TlsProxy.start(t, {
    certificates: [site], certificateFor: () => own, clientCertificates: 'required', clientCa: [ca.cert], clientCrl: [crl],
  })
  const statuses = async (): Promise<number[]> => {
    const answers = ['a.test', 'c.test'].map(name => proxy.get(name, { cert: client.cert, key: client.key }))
    return (await Promise.all(answers)).map(({ status }) => status)
  }
  assert.deepEqual(await statuses(), [200, 200])
  writeFileSync(crl, ca.crl([client]))
  await proxy.service.reloadCertificates()
  assert.deepEqual(await statuses(), [0, 0])
})

test('TLS listener: an application that is late leaves the default', async t => {
  const clock = new FakeClock()
  let late = (_certificate: GivenCertificate | null): void => {}
  const proxy = await TlsProxy.start(t, {
    certificates: [site], certificateForTimeoutMs: 3000, certificateFor: () => new Promise(resolve => { late = resolve }),
  }, { clock })
  let wasAsked = false
  const answer = proxy.get('c.test')
  const nothing = late
  await waitFor('the server to be there', () => wasAsked ||= late !== nothing)
  clock.advance(3100)
  const { certificate, status } = await answer
  assert.deepEqual([certificate, status], ['a.test', 421])
  late(wild)
  assert.match(JSON.stringify(proxy.lines), /"error":"it was late"/)
})

test('TLS listener: a client that does not get on is cut after its time, wherever it stands', async t => {
  const clock = new FakeClock()
  const proxy = await TlsProxy.start(t, { certificates: [site], handshakeTimeoutMs: 2000 }, { clock })
  const hello = await helloOf({ servername: 'a.test' })
  const plain = Buffer.from(`GET /${'a'.repeat(300)} HTTP/1.1\r\n`)
  for (const bytes of [Buffer.alloc(0), hello.subarray(0, 1), hello.subarray(0, 100), hello, plain]) {
    // Half-open, so that the answer in clear does not end it.
    const socket = net.connect({ host: '127.0.0.1', port: proxy.port, allowHalfOpen: true })
    const isGone = gone(socket), isAnswered = bytes === hello || bytes === plain
    const answered = isAnswered ? once(socket, 'data') : null
    socket.resume()
    socket.write(bytes)
    await waitFor('the server to be there', () => proxy.service.stats().connections === 1)
    await answered
    clock.advance(2100)
    await proxy.settled()
    // It was told already that nothing more comes.
    if (bytes !== plain) await isGone
    socket.destroy()
  }
  assert.deepEqual(proxy.results, ['timeout', 'timeout', 'timeout', 'timeout', 'plain-http'])
})

test('TLS listener: handshakes beyond the limit wait for a place, and are served when one is free', async t => {
  const proxy = await TlsProxy.start(t, { certificates: [site], maxConcurrentHandshakes: 2 })
  const hello = await helloOf({ servername: 'a.test' })
  const slow = await Promise.all([proxy.connect(), proxy.connect()])
  for (const socket of slow) {
    socket.on('error', () => {})
    socket.write(hello)
    await once(socket, 'data')
  }
  const answers = [proxy.get('a.test'), proxy.get('a.test'), proxy.get('a.test')]
  await waitFor('the server to be there', () => proxy.service.stats().connections === 5)
  assert.deepEqual(proxy.results, [])
  slow[0]!.destroy()
  for (const answer of await Promise.all(answers)) assert.equal(answer.status, 200)
  slow[1]!.destroy()
  await proxy.settled()
  assert.deepEqual(proxy.results.toSorted(), ['client-gone', 'client-gone', 'ok', 'ok', 'ok'])
})

test('TLS listener: clients that begin handshakes and say no more do not keep others from theirs', async t => {
  const clock = new FakeClock(), proxy = await TlsProxy.start(t, { certificates: [site], maxConcurrentHandshakes: 2 }, { clock })
  const hello = await helloOf({ servername: 'a.test' })
  const silent = await Promise.all([proxy.connect(), proxy.connect()])
  for (const socket of silent) {
    socket.write(hello)
    await once(socket, 'data')
  }
  const answer = proxy.get('a.test')
  await waitFor('the server to be there', () => proxy.service.stats().connections === 3)
  t.after(() => { for (const socket of silent) socket.destroy() })
  let status = 0, passed = 0
  void answer.then(found => { status = found.status })
  await waitFor('an answer', () => {
    // Not as far as the deadline of those who are silent.
    if (passed < 8_000) clock.advance(100)
    passed += 100
    return status === 200
  })
  for (const socket of silent) socket.destroy()
  await proxy.settled()
  assert.deepEqual(proxy.results.toSorted(), ['client-gone', 'client-gone', 'ok'])
})

test('TLS listener: what is under way when the server ends is cut, and counted', async t => {
  const proxy = await TlsProxy.start(t, { certificates: [site] })
  const hello = await helloOf({ servername: 'a.test' })
  const socket = await proxy.connect()
  socket.on('error', () => {})
  socket.write(hello)
  await once(socket, 'data')
  const isGone = gone(socket)
  proxy.service.close()
  await isGone
  assert.deepEqual(proxy.results, ['cut'])
})

test('TLS listener: a drain lets a handshake that is under way end, and its first request be answered', async t => {
  const proxy = await TlsProxy.start(t, { certificates: [site] })
  const socket = tls.connect({ host: '127.0.0.1', port: proxy.port, servername: 'a.test', rejectUnauthorized: false })
  const secure = once(socket, 'secureConnect')
  await waitFor('the server to be there', () => proxy.service.stats().connections === 1)
  const drained = proxy.service.drain(drainOrder('retire', DRAIN_DEFAULTS))
  await secure
  socket.write('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n')
  const [data] = await once(socket, 'data') as [Buffer]
  assert.match(data.toString(), /^HTTP\/1\.1 200 OK\r\n[^]*Connection: close/i)
  socket.end()
  assert.equal((await drained).cut, 0)
})

test('TLS listener: a stop closes connections that wait, and leaves a handshake that has begun its time', async t => {
  const clock = new FakeClock(), proxy = await TlsProxy.start(t, { certificates: [site] }, { clock })
  const waits = await proxy.connect(), isGone = gone(waits)
  const hello = await helloOf({ servername: 'a.test' }), half = await proxy.connect(), isHalfGone = gone(half)
  half.write(hello.subarray(0, 50))
  await waitFor('both to be there', () => proxy.service.stats().connections === 2)
  // What was written before is read by then.
  await proxy.get('a.test')
  await waitFor('both to be left', () => proxy.service.stats().connections === 2)
  const drained = proxy.service.drain({ ...drainOrder('stop', DRAIN_DEFAULTS), hardDrainMs: 60_000 })
  const pass = (ms: number): void => { for (let left = ms; left > 0; left -= 100) clock.advance(100) }
  pass(5000)
  await isGone
  const answer = once(half, 'data')
  half.write(hello.subarray(50))
  // ServerHello.
  assert.equal((await answer as [Buffer])[0][5], 2)
  pass(6000)
  await isHalfGone
  pass(1000)
  assert.equal((await drained).cut, 0)
  assert.deepEqual(proxy.results, ['ok', 'cut', 'timeout'])
})

test('TLS listener: 421 for a host whose entry asks other things of clients, whatever the option says', async t => {
  const guarded = ca.issue({ names: ['m.test'] })
  const rules = { clientCertificates: 'required', clientCa: ca.cert } as const
  const proxy = await TlsProxy.start(t, { certificates: [site, wild, { ...guarded, ...rules }] })
  const statusOf = async (name: string, host: string): Promise<number> => {
    return (await proxy.get(name, { cert: site.cert, key: site.key }, host)).status
  }
  const expected: [name: string, host: string, status: number][] = [
    ['a.test', 'm.test', 421], ['a.test', 'M.TEST:443', 421], ['', 'm.test', 421], ['m.test', 'a.test', 421], ['m.test', '[::1]:443', 421],
    ['m.test', 'm.test', 200], ['a.test', 'x.b.test', 200], ['a.test', 'any.test', 200],
  ]
  for (const [name, host, status] of expected) assert.equal(await statusOf(name, host), status, `${name} ${host}`)
})

test('TLS listener: who comes under rules that were replaced gets 421 once, and comes again on another connection', async t => {
  const folder = temporaryFolder(t), crl = path.join(folder, 'clients.crl'), client = ca.issue({ names: ['client-1'] })
  mkdirSync(folder, { recursive: true })
  writeFileSync(crl, ca.crl())
  const proxy = await TlsProxy.start(t, { certificates: [site], clientCertificates: 'required', clientCa: [ca.cert], clientCrl: [crl] })
  const socket = tls.connect({
    host: '127.0.0.1', port: proxy.port, servername: 'a.test', rejectUnauthorized: false, cert: client.cert, key: client.key,
  })
  t.after(() => { socket.destroy() })
  let text = ''
  socket.on('data', data => { text += data })
  const isGone = gone(socket)
  const ask = (): void => { socket.write('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n') }
  ask()
  await waitFor('the first answer', () => text.startsWith('HTTP/1.1 200') && text.endsWith('}'))
  // Not of this client.
  writeFileSync(crl, ca.crl([ca.issue()]))
  await proxy.service.reloadCertificates()
  text = ''
  ask()
  await isGone
  assert.match(text, /^HTTP\/1\.1 421 [^]*\r\nConnection: close\r\n/)
  assert.equal((await proxy.get('a.test', { cert: client.cert, key: client.key })).status, 200)
})

test('TLS listener: in HTTP/2 rules that were replaced end the connection, and another host does not', async t => {
  const folder = temporaryFolder(t), crl = path.join(folder, 'clients.crl'), client = ca.issue({ names: ['client-1'] })
  mkdirSync(folder, { recursive: true })
  writeFileSync(crl, ca.crl())
  const proxy = await TlsProxy.start(t, {
    certificates: [site, { ...wild, clientCertificates: 'none' }], clientCertificates: 'required', clientCa: [ca.cert], clientCrl: [crl],
  })
  const session = http2.connect(`https://127.0.0.1:${proxy.port}`, {
    servername: 'a.test', rejectUnauthorized: false, cert: client.cert, key: client.key,
  })
  t.after(() => { session.destroy() })
  let goneAways = 0
  session.on('goaway', () => { goneAways++ })
  const closed = new Promise(resolve => { session.once('close', resolve) })
  const statusOf = async (authority: string): Promise<number> => {
    const stream = session.request({ ':authority': authority }), [head] = await once(stream, 'response') as [http2.IncomingHttpHeaders]
    stream.resume()
    await once(stream, 'close')
    return Number(head[':status'])
  }
  assert.deepEqual([await statusOf('a.test'), await statusOf('x.b.test'), await statusOf('a.test'), goneAways], [200, 421, 200, 0])
  writeFileSync(crl, ca.crl([ca.issue()]))
  await proxy.service.reloadCertificates()
  assert.equal(await statusOf('a.test'), 421)
  await closed
  assert.ok(goneAways > 0)
})

test('TLS listener: with sniMismatch reject, 421 for every host of another certificate', async t => {
  const both = ca.issue({ names: ['c.test', 'd.test'] })
  const proxy = await TlsProxy.start(t, {
    certificates: [site, wild, { ...both, names: ['c.test'] }, { ...both, names: ['d.test'] }], sniMismatch: 'reject',
  })
  const statusOf = async (name: string, host: string): Promise<number> => (await proxy.get(name, {}, host)).status
  const expected: [name: string, host: string, status: number][] = [
    ['a.test', 'x.b.test', 421], ['', 'x.b.test', 421], ['x.b.test', 'other.test', 421],
    ['a.test', 'a.test:8443', 200], ['', '127.0.0.1', 200], ['x.b.test', 'y.b.test', 200], ['c.test', 'd.test', 200],
  ]
  for (const [name, host, status] of expected) assert.equal(await statusOf(name, host), status, `${name} ${host}`)
})

test('TLS listener: clients\' certificates', async t => {
  const others = makeTestCa(), good = ca.issue({ names: ['client-1'] }), revoked = ca.issue({ names: ['client-2'] })
  const clients: [kind: string, certificate: TestCertificate | null][] = [
    ['good', good], ['foreign', others.issue()], ['expired', ca.issueExpired()], ['early', ca.issueNotYetValid()], ['revoked', revoked],
    ['purpose', ca.issueForOtherPurpose()], ['missing', null],
  ]
  const statuses = async (proxy: TlsProxy, maxVersion: 'TLSv1.2' | 'TLSv1.3'): Promise<Record<string, number>> => {
    const found: Record<string, number> = {}
    for (const [kind, shown] of clients) {
      const answer = await proxy.get('a.test', { maxVersion, ...shown === null ? {} : { cert: shown.cert, key: shown.key } })
      found[kind] = answer.status
    }
    return found
  }
  const NONE = { foreign: 0, expired: 0, early: 0, revoked: 0, purpose: 0 }
  for (const version of VERSIONS) {
    const rules = { certificates: [site], clientCa: [ca.cert], clientCrl: [ca.crl([revoked])] }
    const required = await TlsProxy.start(t, { ...rules, clientCertificates: 'required' })
    assert.deepEqual(await statuses(required, version), { ...NONE, good: 200, missing: 0 })
    await required.settled()
    assert.equal(required.results.filter(result => result === 'client-certificate').length, 6)
    const optional = await TlsProxy.start(t, { ...rules, clientCertificates: 'optional' })
    assert.deepEqual(await statuses(optional, version), { ...NONE, good: 200, missing: 200 })
    const none = await TlsProxy.start(t, { certificates: [site] })
    assert.deepEqual(new Set(Object.values(await statuses(none, version))), new Set([200]))
    const { facts } = await required.get('a.test', { cert: good.cert, key: good.key })
    assert.equal((facts!.tls as unknown as { client: { subject: string } }).client.subject, 'CN=client-1')
    // A workload has no other name.
    const workload = ca.issue({ commonName: null, uris: ['spiffe://a.test/b'] })
    const { tls: told } = (await required.get('a.test', { cert: workload.cert, key: workload.key })).facts!
    const { subject, altNames } = (told as unknown as { client: { subject?: string; altNames: string } }).client
    assert.deepEqual([subject, altNames], ['', 'URI:spiffe://a.test/b'])
  }
})

test('TLS listener: where that is asked for, the origin is told whose certificate it was, and nobody else can say it', async t => {
  const origin = await ScriptedOrigin.start(answerOk)
  t.after(() => origin.stop())
  const peer = new HttpPeer(origin.authority), good = ca.issue({ names: ['client-1'] })
  const hooks = { upstreamPeer: () => peer, requestFilter: () => 'continue' as const }
  const options = { certificates: [site], clientCertificates: 'optional', clientCa: [ca.cert] } as const
  const forged = 'a.test\r\nClient-Cert: :AAAA:\r\nclient-cert-chain: :BBBB:\r\nX-Forwarded-Proto: http'
  const sentTo = async (proxy: TlsProxy, shown: TestCertificate | null, host: string): Promise<Record<string, string | null>> => {
    await proxy.get('a.test', shown === null ? {} : { cert: shown.cert, key: shown.key }, host)
    const request = origin.requests.at(-1)!
    return Object.fromEntries(['client-cert', 'client-cert-chain', 'x-forwarded-proto'].map(name => [name, request.field(name)]))
  }
  const tells = await TlsProxy.start(t, options, { hooks, service: { clientCertificate: 'client-cert' } })
  const value = `:${good.x509.raw.toString('base64')}:`
  // With a field in it that is merged, and without.
  for (const host of [forged, 'a.test', 'a.test\r\nX-Request-Id: 1', 'a.test\r\nclient_cert: :AAAA:']) {
    const rest = { 'client-cert-chain': null, 'x-forwarded-proto': 'https' }
    assert.deepEqual(await sentTo(tells, good, host), { 'client-cert': value, ...rest }, host)
    assert.deepEqual(await sentTo(tells, null, host), { 'client-cert': null, ...rest }, host)
  }
  const silent = await TlsProxy.start(t, options, { hooks })
  assert.equal((await sentTo(silent, good, 'a.test'))['client-cert'], null)
  const forwarded = await TlsProxy.start(t, options, { hooks, service: { forwarded: 'forwarded' } })
  await forwarded.get('a.test')
  assert.equal(origin.requests.at(-1)!.field('forwarded'), 'for=127.0.0.1;proto=https')
})

test('TLS listener: a list of revoked certificates that is out of date is the operator\'s, and told to everybody', async t => {
  const good = ca.issue({ names: ['client-1'] }), old = new Date(Date.now() - 86_400_000)
  const clientCrl = [ca.crl([], { thisUpdate: old, nextUpdate: old })]
  const proxy = await TlsProxy.start(t, { certificates: [site], clientCertificates: 'required', clientCa: [ca.cert], clientCrl })
  assert.equal((await proxy.get('a.test', { cert: good.cert, key: good.key })).status, 0)
  await proxy.settled()
  assert.deepEqual(proxy.lines.filter(({ level }) => level === 'error').map(({ fields }) => fields!['error']), ['CRL_HAS_EXPIRED'])
})

test('TLS listener: sessions are resumed by another instance with the same keys, also behind a rotation and a swap', async t => {
  const before = ticketKeys.keys
  t.after(() => setTicketKeys(before))
  const one = await TlsProxy.start(t, { certificates: [site, wild] }), two = await TlsProxy.start(t, { certificates: [site, wild] })
  const key = makeTicketKey()
  for (const maxVersion of VERSIONS) {
    setTicketKeys([key])
    const first = await one.get('x.b.test', { maxVersion })
    assert.equal(first.resumed, false)
    const resume = async (session: Buffer | null): Promise<boolean> => {
      const answer = await two.get('x.b.test', { maxVersion, session: session! })
      assert.equal(answer.facts!.tls.resumed, answer.resumed)
      assert.equal(answer.facts!.tls.serverName, 'x.b.test')
      return answer.resumed
    }
    assert.equal(await resume(first.session), true, maxVersion)
    const newer = makeTicketKey()
    setTicketKeys([newer, key])
    assert.equal(await resume(first.session), true, `an older key ${maxVersion}`)
    // What an older key was good for is good for the newer one from now on.
    const renewed = (await two.get('x.b.test', { maxVersion, session: first.session! })).session
    setTicketKeys([newer])
    assert.equal(await resume(renewed), true, `renewed ${maxVersion}`)
    assert.equal(await resume(first.session), false, `a key that is gone ${maxVersion}`)
  }
})

test('TLS listener: a session of one name is none at another with other rules for clients, either way', async t => {
  const guarded = { ...ca.issue({ names: ['m.test'] }), clientCertificates: 'required', clientCa: ca.cert } as const
  const loose = { ...ca.issue({ names: ['o.test'] }), clientCertificates: 'optional', clientCa: makeTestCa().cert } as const
  const proxy = await TlsProxy.start(t, { certificates: [site, guarded, loose] }), shown = { cert: site.cert, key: site.key }
  for (const maxVersion of VERSIONS) {
    const { session: open } = await proxy.get('a.test', { maxVersion })
    const { session: closed } = await proxy.get('m.test', { maxVersion, ...shown })
    // Node.js binds a session to its name: what a hostile client does is undone here.
    const at = (name: string, session: Buffer | null, more = {}): ReturnType<TlsProxy['get']> => {
      return proxy.get(name, { maxVersion, session: session ?? undefined, checkServerIdentity: () => undefined, ...more })
    }
    assert.equal((await at('m.test', open)).status, 0)
    assert.equal((await at('m.test', open, shown)).resumed, false)
    assert.equal((await at('m.test', closed, shown)).resumed, false)
    assert.equal((await at('m.test', closed)).status, 0)
    assert.equal((await at('a.test', closed)).resumed, false)
    assert.equal((await at('o.test', closed)).resumed, false)
    assert.equal((await at('o.test', open)).resumed, false)
  }
})

test('TLS listener: a session is one for the names of its certificate and the ciphers of its listener alone', async t => {
  const other = ca.issue({ names: ['c.test'] }), renewed = ca.issue({ names: ['a.test'], keyType: 'ecdsa-p384' })
  const first = await TlsProxy.start(t, { certificates: [site] }), strangers = await TlsProxy.start(t, { certificates: [other] })
  const sisters = await TlsProxy.start(t, { certificates: [other, renewed] })
  for (const maxVersion of VERSIONS) {
    const { session } = await first.get('a.test', { maxVersion })
    // Who sends a client there must not pass for the name that it has asked for: nothing of a certificate is shown when one resumes.
    const astray = await strangers.get('a.test', { maxVersion, session: session! })
    assert.deepEqual([astray.status, astray.resumed, astray.certificate], [200, false, 'c.test'], maxVersion)
    assert.deepEqual([(await sisters.get('a.test', { maxVersion, session: session! })).resumed], [true], maxVersion)
  }
  const older = await TlsProxy.start(t, { certificates: [site], ciphers: 'ECDHE-ECDSA-AES128-SHA' })
  const client = { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES128-GCM-SHA256' } as const
  const { session } = await older.get('a.test', client)
  assert.equal((await older.get('a.test', { ...client, session: session! })).resumed, true)
  const { facts, resumed } = await first.get('a.test', { ...client, session: session! })
  assert.deepEqual([resumed, (facts!.tls as unknown as { cipher: string }).cipher], [false, 'ECDHE-ECDSA-AES128-GCM-SHA256'])
})

test('TLS listener: without resumption nothing is resumed', async t => {
  const proxy = await TlsProxy.start(t, { certificates: [site], resumption: false })
  for (const maxVersion of VERSIONS) {
    const { session } = await proxy.get('a.test', { maxVersion })
    assert.equal((await proxy.get('a.test', { maxVersion, session: session ?? undefined })).resumed, false)
  }
})

test('TLS listener: nobody renegotiates', async t => {
  const proxy = await TlsProxy.start(t, { certificates: [site] })
  const options = { host: '127.0.0.1', port: proxy.port, servername: 'a.test', rejectUnauthorized: false, maxVersion: 'TLSv1.2' } as const
  const socket = tls.connect(options), isGone = gone(socket)
  await once(socket, 'secureConnect')
  const error = await new Promise<Error | null>(resolve => {
    socket.renegotiate({ rejectUnauthorized: false }, resolve)
    void isGone.then(() => resolve(new Error('closed')))
  })
  assert.notEqual(error, null)
  socket.destroy()
})

test('TLS listener: an answer of OCSP is stapled, and secrets are written where that is asked for', async t => {
  const folder = temporaryFolder(t), ocspFile = path.join(folder, 'ocsp.der'), keyLogFile = path.join(folder, 'keys.log')
  const der = Buffer.concat([Buffer.from('300d0a0100a008300606022a030400', 'hex'), Buffer.alloc(8)])
  writeFileSync(ocspFile, der)
  const proxy = await TlsProxy.start(t, { certificates: [{ ...site, ocspFile }], keyLogFile, certificateCompression: ['zlib'] })
  const socket = tls.connect({ host: '127.0.0.1', port: proxy.port, servername: 'a.test', rejectUnauthorized: false, requestOCSP: true })
  const [stapled] = await once(socket, 'OCSPResponse') as [Buffer]
  assert.deepEqual(stapled, der)
  await waitFor('the server to be there', () => existsSync(keyLogFile) && readFileSync(keyLogFile, 'utf8').includes('_TRAFFIC_SECRET_0'))
  socket.destroy()
  assert.match(JSON.stringify(proxy.lines), /whoever has it reads them/)
})

test('TLS listener: secrets are not written where others could read them', async t => {
  const keyLogFile = path.join(temporaryFolder(t), 'keys.log')
  mkdirSync(path.dirname(keyLogFile), { recursive: true })
  for (const mode of [0o640, 0o604, 0o622]) {
    writeFileSync(keyLogFile, '')
    chmodSync(keyLogFile, mode)
    const given = { certificates: [site], keyLogFile }
    await assert.rejects(TlsProxy.start(t, given), /listener\.tls\.keyLogFile is ".*"; give a file that is not there, or one that only/)
  }
})

test('TLS listener: certificates are replaced while handshakes run; none fails, and none is of a mixed pair', async t => {
  const folder = temporaryFolder(t)
  mkdirSync(folder, { recursive: true })
  const generations = Array.from({ length: 8 }, () => ca.issue({ names: ['a.test'] }))
  const { certFile, keyFile } = writeCertificate(folder, 'site', generations[0]!)
  const proxy = await TlsProxy.start(t, { certificates: [{ cert: certFile, key: keyFile }] })
  let ended = false, answers = 0
  const clients = Array.from({ length: 4 }, async () => {
    while (!ended) {
      // A signature by another key than that of the certificate fails in the client.
      const answer = await proxy.get('a.test', { ca: ca.cert, rejectUnauthorized: true })
      assert.deepEqual([answer.status, answer.error], [200, ''])
      answers++
    }
  })
  try {
    for (let swap = 1; swap <= 300; swap++) {
      writeCertificate(folder, 'site', generations[swap % generations.length]!)
      const [reload] = await proxy.service.reloadCertificates()
      assert.deepEqual(reload!.changes.map(({ outcome }) => outcome), ['swapped'])
      if (swap % 3 === 0) await new Promise(setImmediate)
      if (swap === 150) {
        // What would not do changes nothing, and says why.
        writeFileSync(keyFile, generations[0]!.key)
        writeFileSync(certFile, generations[1]!.cert)
        const [refused] = await proxy.service.reloadCertificates()
        assert.match(refused!.changes[0]!.reason, /site\.key does not belong to the certificate in .*site\.crt/)
        writeFileSync(certFile, ca.issueExpired({ names: ['a.test'], signedKey: generations[0]!.privateKey }).cert)
        assert.match((await proxy.service.reloadCertificates())[0]!.changes[0]!.reason, /is expired since/)
      }
    }
  } finally {
    ended = true
  }
  await Promise.all(clients)
  assert.ok(answers > 8, `${answers} answers`)
})
