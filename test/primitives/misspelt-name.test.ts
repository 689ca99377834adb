import assert from 'node:assert/strict'
import { test } from 'node:test'
import { misspeltName } from '../../src/primitives/misspelt-name.ts'
import { HOOKS } from '../../src/proxy/proxy-http.ts'

const absent = (): boolean => false
const present = (): boolean => true

test('misspelt name: slips of the pen, other cases, other spellings and an on in front lead to the name that was meant', () => {
  const meant = {
    requestFilter: [
      'requestFiler', 'requestFitler', 'reqeustFilter', 'requetsFiltr', 'requestFliter', 'RequestFilter', 'requestfilter', 'requestfiler',
      'request_filter', 'REQUEST_FILTER', 'request-filter', 'onRequestFilter', 'on_request_filter', 'requestFilters', 'requestsFilter',
    ],
    upstreamPeer: ['upstreampeer', 'upStreamPeer', 'upstreamPeers', 'upstramPeer', 'upstream_peer'],
    newCtx: ['newctx', 'new_ctx', 'newCxt', 'NewCtx'],
    logging: ['loging', 'Logging', 'onLogging', 'loggin'],
    onConnectionReuse: ['connectionReuse', 'onConectionReuse'],
    failToProxy: ['failtoproxy', 'failToProxi', 'fail_to_proxy', 'failedToProxy'],
    connectedToUpstream: ['connectToUpstream'],
  }
  for (const [hook, names] of Object.entries(meant)) {
    for (const name of names) assert.equal(misspeltName(name, HOOKS, absent), hook, name)
  }
})

test('misspelt name: what an owner calls its own is nobody else\'s', () => {
  const own = [
    '_requestFilter', '_requestFiler', 'filter', 'peer', 'request', 'login', 'log', 'logs', 'doRequestFilter', 'requestFilterOf',
    'filterRequest', 'myRequestFilter', 'upstreamUser', 'upstreamOf', 'pickPeer', 'onRequest', 'onError', 'newContext', 'ctx', 'context',
    'requestHeaderFilter', 'connect', 'isRequestFiltered', 'authenticate', 'failAtProxy', 'toString', 'constructor', 'f', '',
  ]
  for (const name of own) assert.equal(misspeltName(name, HOOKS, absent), null, name)
  for (const hook of HOOKS) assert.equal(misspeltName(hook, HOOKS, absent), null, hook)
})

test('misspelt name: beside the name that was meant, a plural, a tense or a number makes another one, and a slip is a slip', () => {
  for (const name of ['upstreamPeers', 'requestFilter2', 'requestFilters', 'connectToUpstream']) {
    assert.equal(misspeltName(name, HOOKS, present), null, name)
  }
  assert.equal(misspeltName('requestFiler', HOOKS, present), 'requestFilter')
  assert.equal(misspeltName('requestfilter', HOOKS, present), 'requestFilter')
})
