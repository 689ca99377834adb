import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HttpConnector, HttpPeer, httpProxyService, TransportConnector, type HttpProxyOptions, type ProxyHttp } from '../../src/index.ts'
import { HTTP_PROXY_DEFAULTS, resolveHttpProxyOptions } from '../../src/server/http-proxy-options.ts'

const APP: ProxyHttp<null> = { newCtx: () => null, upstreamPeer: () => new HttpPeer('127.0.0.1:1') }

function refusal(make: () => unknown): string {
  try {
    make()
  } catch (error) {
    return (error as Error).message
  }
  return 'nothing'
}

test('http proxy options: what is left out is the default, listeners included', () => {
  assert.deepEqual(resolveHttpProxyOptions({}), HTTP_PROXY_DEFAULTS)
  const { listener } = resolveHttpProxyOptions({ listener: { headTimeoutMs: 5 } })
  assert.deepEqual(listener, { ...HTTP_PROXY_DEFAULTS.listener, headTimeoutMs: 5 })
})

test('http proxy options: a value out of range and misspelt names are refused at construction, with one message', () => {
  const wrong = { tunnelIdleTimeoutMs: -1, upgrads: false, trustedHops: ['10.0.0.0/33'], listener: { maxUriByte: 900 } }
  const given = wrong as unknown as HttpProxyOptions
  assert.equal(refusal(() => httpProxyService(APP, given)), [
    'httpProxy.tunnelIdleTimeoutMs is -1; use 0 (turns it off) or a positive number of milliseconds',
    'httpProxy.upgrads is not an option; use upgrades',
    'httpProxy.trustedHops is a list that would not do; use IP addresses and CIDR blocks such as 10.0.0.0/8 only, not "10.0.0.0/33"',
    'httpProxy.listener.maxUriByte is not an option; use maxUriBytes',
  ].join('\n'))
})

test('http proxy options: HTTP itself is no protocol to switch to', () => {
  const wrong: unknown[] = [['h2c'], ['websocket', 'H2C'], ['HTTP/2.0'], ['TLS/1.2'], ['a b'], [''], ['a/b/c'], true]
  for (const upgrades of wrong as string[][]) {
    assert.match(refusal(() => httpProxyService(APP, { upgrades })), /^httpProxy\.upgrades is .*; use /, JSON.stringify(upgrades))
  }
  assert.deepEqual(resolveHttpProxyOptions({ upgrades: ['IRC/6.9', 'websocket'] }).upgrades, ['IRC/6.9', 'websocket'])
})

test('http proxy options: options of a listener are checked when it is added', () => {
  assert.equal(
    refusal(() => httpProxyService(APP).addTcp('127.0.0.1:0', { maxConections: 1, backlog: 0 } as object)),
    'listener.maxConections is not an option; use maxConnections\nlistener.backlog is 0; use a whole number from 1 to 65535',
  )
})

test('http proxy options: connectors refuse what is not theirs', () => {
  assert.equal(refusal(() => new HttpConnector({ maxIdlePerKeys: 1, maxIdleConnections: -1 } as object)), [
    'connector.maxIdlePerKeys is not an option; use maxIdlePerKey',
    'connector.maxIdleConnections is -1; use 0 (turns reuse off) or a positive whole number',
  ].join('\n'))
  assert.equal(refusal(() => new TransportConnector({ bindToV4: '127.0.0.1', rezolver: null } as object)), [
    'connector.bindToV4 is "127.0.0.1"; use a list of IPv4 addresses', 'connector.rezolver is not an option; use resolver',
  ].join('\n'))
})
