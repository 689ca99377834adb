/** What is negotiated with clients that offer this or that. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import tls from 'node:tls'
import type { TlsListenerOptions } from '../../src/listener/tls-listener-options.ts'
import { makeTestCa } from '../support/test-ca.ts'
import { gone, TlsProxy } from '../support/tls-proxy.ts'

const site = makeTestCa().issue({ names: ['a.test'] })

/** Version, cipher, and the group of the key exchange. */
async function settled(proxy: TlsProxy, offer: tls.ConnectionOptions): Promise<(string | undefined)[]> {
  const socket = tls.connect({ host: '127.0.0.1', port: proxy.port, servername: 'a.test', rejectUnauthorized: false, ...offer })
  const isGone = gone(socket)
  await Promise.race([new Promise(resolve => { socket.once('secureConnect', resolve) }), isGone])
  if (socket.destroyed) return ['refused']
  const { name } = socket.getEphemeralKeyInfo() as { name?: string }
  const found = [socket.getProtocol() ?? '', socket.getCipher().name, name]
  socket.destroy()
  await isGone
  return found
}

const start = (t: TestContext, options: TlsListenerOptions): Promise<TlsProxy> => TlsProxy.start(t, { certificates: [site], ...options })

test('TLS policy: the hybrid group comes first, and others for clients that do not have it', async t => {
  const proxy = await start(t, {})
  assert.deepEqual(await settled(proxy, {}), ['TLSv1.3', 'TLS_AES_128_GCM_SHA256', 'X25519MLKEM768'])
  assert.equal((await settled(proxy, { ecdhCurve: 'X25519:P-256' }))[2], 'X25519')
  assert.equal((await settled(proxy, { ecdhCurve: 'P-384' }))[2], 'secp384r1')
  // Whatever the client would rather have.
  assert.equal((await settled(proxy, { ecdhCurve: 'P-256:X25519:X25519MLKEM768' }))[2], 'X25519MLKEM768')
})

test('TLS policy: AES-128 first, and ChaCha20 for those who want that most', async t => {
  const proxy = await start(t, {})
  const of = async (ciphers: string, maxVersion: tls.SecureVersion): Promise<string | undefined> => {
    return (await settled(proxy, { ciphers, maxVersion }))[1]
  }
  assert.equal(await of('TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256', 'TLSv1.3'), 'TLS_AES_128_GCM_SHA256')
  assert.equal(await of('TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256', 'TLSv1.3'), 'TLS_CHACHA20_POLY1305_SHA256')
  const [aes128, aes256] = ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384'], chacha = 'ECDHE-ECDSA-CHACHA20-POLY1305'
  assert.equal(await of(`${aes256}:${aes128}`, 'TLSv1.2'), aes128)
  assert.equal(await of(`${chacha}:${aes128}`, 'TLSv1.2'), chacha)
})

test('TLS policy: nothing of yesterday', async t => {
  const proxy = await start(t, {})
  const all = ['AES128-GCM-SHA256', 'ECDHE-ECDSA-AES128-SHA', 'ECDHE-ECDSA-AES128-SHA256', 'DHE-RSA-AES128-GCM-SHA256', 'AECDH-AES128-SHA']
  for (const ciphers of all) {
    assert.deepEqual(await settled(proxy, { ciphers: `${ciphers}:@SECLEVEL=0`, maxVersion: 'TLSv1.2' }), ['refused'], ciphers)
  }
  for (const maxVersion of ['TLSv1', 'TLSv1.1'] as const) {
    assert.deepEqual(await settled(proxy, { minVersion: 'TLSv1', maxVersion, ciphers: 'ALL:@SECLEVEL=0' }), ['refused'], maxVersion)
  }
})

test('TLS policy: own lists count, within what is safe to write', async t => {
  const proxy = await start(t, { ciphers: 'TLS_CHACHA20_POLY1305_SHA256', groups: ['P-256'], minVersion: 'TLSv1.3' })
  assert.deepEqual(await settled(proxy, {}), ['TLSv1.3', 'TLS_CHACHA20_POLY1305_SHA256', 'prime256v1'])
  assert.deepEqual(await settled(proxy, { maxVersion: 'TLSv1.2' }), ['refused'])
  await assert.rejects(start(t, { ciphers: 'NOTHING' }), /is refused by OpenSSL: /)
  await assert.rejects(start(t, { ciphers: 'a b' }), /listener\.tls\.ciphers is "a b"; use names of ciphers/)
  await assert.rejects(start(t, { policy: 'modern', minVersion: 'TLSv1.2' }), /tls\.minVersion is "TLSv1\.2"; the policy modern has/)
  for (const only of [{ policy: 'modern' }, { minVersion: 'TLSv1.3' }] as const) {
    await assert.rejects(start(t, { ...only, ciphers: 'ECDHE-ECDSA-AES128-SHA' }), /tls\.ciphers is "ECDHE.*; use names of TLS 1\.3/)
  }
  await assert.rejects(start(t, { certificateCompression: ['gzip'] }), /use 'zlib', 'brotli' and 'zstd' only/)
})

test('TLS policy: certificates are compressed for clients that can', async t => {
  const proxy = await start(t, { certificateCompression: ['zlib', 'brotli'] })
  assert.equal((await proxy.get('a.test')).certificate, 'a.test')
  assert.equal((await proxy.get('a.test', { certificateCompression: ['zlib'] } as tls.ConnectionOptions)).certificate, 'a.test')
})
