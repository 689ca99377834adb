import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { HttpPeer, type HttpPeerOptions } from '../../src/peer/http-peer.ts'
import {
  KEYED, PEER_DEFAULTS, PEER_OPTIONS, REFUSED, UNKEYED, checkPeerOptions, type PeerOptions, type ResolvedPeerOptions,
} from '../../src/peer/peer-options.ts'
import { makeTestCa } from '../support/test-ca.ts'

const ca = makeTestCa()
const peer = (options: HttpPeerOptions): HttpPeer => new HttpPeer('127.0.0.1:80', options)

test('peer options: every option is either in the reuse key or said not to be', () => {
  assert.deepEqual([...KEYED, ...UNKEYED].toSorted(), Object.keys(PEER_DEFAULTS).toSorted())
  assert.equal(new Set([...KEYED, ...UNKEYED]).size, KEYED.length + UNKEYED.length)
})

test('peer options: the documented defaults are the ones in force', () => {
  const text = readFileSync(new URL('../../src/peer/peer-options.ts', import.meta.url), 'utf8') + readFileSync(
    new URL('../../src/protocols/http1/http1-options.ts', import.meta.url),
    'utf8',
  ).replace(/^[^]*?interface Http1ClientOptions/, '')
  const documented = new Map([...text.matchAll(/@default (.+?)(?:\n\s*)? \*\/\n\s+(\w+)\?:/g)].map(match => [match[2]!, match[1]!]))
  for (const [name, value] of Object.entries(PEER_DEFAULTS)) {
    const written = typeof value === 'string' ? `'${value}'` : Array.isArray(value) ? JSON.stringify(value) : String(value)
    assert.equal(documented.get(name), written, name)
  }
})

/** A value for each option that is allowed and not the default. */
const OTHER: { readonly [K in keyof ResolvedPeerOptions]: ResolvedPeerOptions[K] } = {
  maxResponseHeadBytes: 1024, maxResponseHeaderCount: 10, maxInterimResponses: 1, maxInterimBytes: 100, continueTimeoutMs: 2000,
  firstByteTimeoutMs: 1000, responseHeadTimeoutMs: 1000, readTimeoutMs: 1000, writeTimeoutMs: 1000,
  resolveTimeoutMs: 1000, connectTimeoutMs: 1000, totalConnectTimeoutMs: 1000, maxConnectionAgeMs: 1, idleTimeoutMs: 0, maxReplayBytes: 0,
  maxAttempts: 1, retryBudgetPercent: 0,
  maxConnectionsPerPeer: 10, maxQueuedPerPeer: 0, queueTimeoutMs: 100, localAddress: '127.0.0.2', localPort: 4000,
  tcpKeepAliveIdleMs: 10_000, tcpKeepAliveIntervalMs: 1000, tcpKeepAliveCount: 3, dscp: 46, tcpUserTimeoutMs: 5000,
  customL4: { connect() { throw new Error('unused') } },
  upgrades: false, extraProxyHeaders: [['X-Tenant', 'a']], onConnectResponse() {}, verifyCert: false, verifyHostname: false,
  alternativeName: 'b.test', ca: [ca.cert], crl: [ca.crl()],
  tlsMinVersion: 'TLSv1.3', tlsMaxVersion: 'TLSv1.2', curves: 'X25519', alpn: 'h2h1', maxH2Streams: 1,
  h2StreamWindowBytes: 65_535, h2ConnectionWindowBytes: 65_535,
  h2PingIntervalMs: 1000, h2PingTimeoutMs: 1000, tracer: {},
}

/** localPort is refused without localAddress, and what TLS is made with without TLS. */
const TOGETHER: Partial<Record<keyof ResolvedPeerOptions, HttpPeerOptions>> = { localPort: { localAddress: '127.0.0.1' } }
const OF_TLS = [
  'verifyCert', 'verifyHostname', 'alternativeName', 'ca', 'crl', 'tlsMinVersion', 'tlsMaxVersion', 'curves',
] as const satisfies readonly (keyof ResolvedPeerOptions)[]
for (const name of OF_TLS) {
  TOGETHER[name] = { tls: true }
  test(`peer options: ${name} without TLS is refused, so that nobody gets plain text by mistake`, () => {
    const message = `peer.${name} means nothing without TLS; use tls: true as well, or leave it out`
    assert.throws(() => peer({ [name]: OTHER[name] }), { name: 'OptionError', message })
    assert.equal(peer({ [name]: PEER_DEFAULTS[name] }).tls, false)
  })
}

for (const name of Object.keys(PEER_DEFAULTS) as (keyof ResolvedPeerOptions)[]) {
  const { awaits } = PEER_OPTIONS[name]
  if (awaits !== '') {
    test(`peer options: ${name} may only be its default as long as there is no ${awaits}`, () => {
      assert.throws(
        () => peer({ [name]: OTHER[name] }),
        ({ message }: Error) => message.startsWith(`peer.${name} is `) && message.endsWith(
          `, but ${awaits} is not implemented yet; leave it out`,
        ),
      )
      assert.equal(peer({ [name]: PEER_DEFAULTS[name] }).options[name], PEER_DEFAULTS[name])
    })
    continue
  }
  test(`peer options: ${name} ${(KEYED as readonly string[]).includes(name) ? 'changes' : 'does not change'} the reuse key`, () => {
    const together = TOGETHER[name] ?? {}
    const without = peer(together), other = peer({ ...together, [name]: OTHER[name] })
    assert.equal(other.options[name], OTHER[name])
    assert.equal(other.reuseKey !== without.reuseKey, (KEYED as readonly string[]).includes(name))
    assert.equal(peer({ ...together, [name]: OTHER[name] }).reuseKey, other.reuseKey, 'the same set gives the same key')
    assert.equal(
      peer({ ...together, [name]: PEER_DEFAULTS[name] }).reuseKey,
      without.reuseKey,
      'a default that is written out gives the key of the default',
    )
  })
}

const BAD: readonly (readonly [name: keyof PeerOptions, value: unknown, says: string])[] = [
  ['idleTimeoutMs', -5, 'peer.idleTimeoutMs is -5; use 0 (turns reuse off) or a positive number of milliseconds'],
  ['readTimeoutMs', 0, 'peer.readTimeoutMs is 0; use a positive number of milliseconds'],
  ['connectTimeoutMs', Number.NaN, 'peer.connectTimeoutMs is NaN; use a positive number of milliseconds'],
  ['connectTimeoutMs', Infinity, 'peer.connectTimeoutMs is Infinity; use a positive number of milliseconds'],
  ['connectTimeoutMs', '3s', 'peer.connectTimeoutMs is "3s"; use a positive number of milliseconds'],
  ['maxAttempts', 0, 'peer.maxAttempts is 0; use a positive whole number'],
  ['maxReplayBytes', 1.5, 'peer.maxReplayBytes is 1.5; use 0 (keeps none) or a positive whole number of bytes'],
  ['retryBudgetPercent', 101, 'peer.retryBudgetPercent is 101; use a number from 0 (allows none) to 100'],
  ['tcpKeepAliveIdleMs', 500, 'peer.tcpKeepAliveIdleMs is 500; use 0 (sends none) or a number of milliseconds of at least 1000'],
  ['localAddress', 'localhost', 'peer.localAddress is "localhost"; use \'\' or an IP address'],
  ['localPort', 70_000, 'peer.localPort is 70000; use 0 (lets the kernel choose) or a whole number from 1 to 65535'],
  ['verifyCert', 'no', 'peer.verifyCert is "no"; use true or false'],
  ['alpn', 'h3', "peer.alpn is \"h3\"; use 'h1', 'h2' or 'h2h1'"],
  ['ca', [], 'peer.ca is a list that would not do; use null or a list of PEM certificates that is not empty'],
  [
    'ca', ['/etc/ssl/ca.pem'],
    'peer.ca is a list that would not do; use certificates in PEM (-----BEGIN CERTIFICATE-----), not the path of a file',
  ],
  [
    'ca', ['-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'],
    'peer.ca is a list that would not do; use certificates that can be read: one of them is damaged',
  ],
  [
    'crl', [ca.cert],
    'peer.crl is a list that would not do; use revocation lists in PEM (-----BEGIN X509 CRL-----), not the path of a file',
  ],
  ['curves', 'X25518', "peer.curves is \"X25518\"; use groups that OpenSSL knows, such as 'X25519MLKEM768:X25519:P-256'"],
  ['tlsMinVersion', 'TLSv1', "peer.tlsMinVersion is \"TLSv1\"; use 'TLSv1.2' or 'TLSv1.3'"],
  [
    'extraProxyHeaders', [['Host', 'x']],
    'peer.extraProxyHeaders is a list that would not do; use no Host field: the connector says how CONNECT is framed',
  ],
  [
    'extraProxyHeaders', [['X', 'a\r\nY: b']],
    'peer.extraProxyHeaders is a list that would not do; use values without controls, outer blanks or characters outside latin1 for X',
  ],
  [
    'extraProxyHeaders', [['X', 'Ċ']],
    'peer.extraProxyHeaders is a list that would not do; use values without controls, outer blanks or characters outside latin1 for X',
  ],
  [
    'extraProxyHeaders', [['bad name', 'x']],
    'peer.extraProxyHeaders is a list that would not do; use field names that are tokens, not "bad name"',
  ],
  ['customL4', {}, 'peer.customL4 is a value of type object; use an object with connect(address), or null'],
]
for (const [name, value, says] of BAD) {
  test(`peer options: ${name} ${JSON.stringify(value) ?? String(value)} is refused with what would do`, () => {
    assert.throws(() => peer({ [name]: value }), { name: 'OptionError', message: says })
  })
}

test('peer options: what cannot be honoured is refused by name', () => {
  for (const name of Object.keys(REFUSED)) {
    assert.throws(
      () => peer({ [name]: 1 } as PeerOptions),
      error => error instanceof TypeError && error.message.startsWith(`peer.${name} is not supported: `),
    )
  }
  assert.throws(() => peer({ idelTimeoutMs: 1 } as PeerOptions), { message: 'peer.idelTimeoutMs is not an option; use idleTimeoutMs' })
  assert.throws(() => peer(JSON.parse('{"__proto__": 1}') as PeerOptions), /peer\.__proto__ is not an option/)
  assert.throws(() => peer({ toString: 1 } as unknown as PeerOptions), /peer\.toString is not an option/)
})

test('peer options: combinations that contradict each other are refused', () => {
  assert.throws(
    () => peer({ customL4: OTHER.customL4, localPort: 4000 }),
    /set localAddress, localPort and tcpKeepAlive there\npeer\.localPort is 4000 .*use both/,
  )
  assert.throws(() => peer({ localPort: 4000 }), /use both/)
  assert.throws(() => peer({ customL4: OTHER.customL4, localAddress: '127.0.0.1' }), /set localAddress, localPort and tcpKeepAlive there/)
})

test('peer options: undefined stands for the default, and null for nothing where nothing is allowed', () => {
  assert.equal(peer({ readTimeoutMs: undefined } as unknown as PeerOptions).options.readTimeoutMs, PEER_DEFAULTS.readTimeoutMs)
  assert.throws(() => peer({ readTimeoutMs: null } as unknown as PeerOptions), /peer\.readTimeoutMs is null/)
  assert.equal(peer({ tracer: null }).options.tracer, null)
})

test('peer options: a set without options is the shared one, a frozen one is checked once', () => {
  assert.equal(checkPeerOptions({}).options, PEER_DEFAULTS)
  const frozen = Object.freeze({ readTimeoutMs: 7 })
  assert.equal(checkPeerOptions(frozen), checkPeerOptions(frozen))
  const loose = { readTimeoutMs: 7 }
  const before = checkPeerOptions(loose)
  loose.readTimeoutMs = 8
  assert.equal(checkPeerOptions(loose).options.readTimeoutMs, 8)
  assert.equal(before.options.readTimeoutMs, 7)
  assert.ok(Object.isFrozen(before.options))
})
