import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HTTP_LISTENER_DEFAULTS, resolveHttpListenerOptions, type HttpListenerOptions } from '../../src/listener/http-listener-options.ts'

test('http listener options: what is left out is the default, or what the service says', () => {
  assert.deepEqual(resolveHttpListenerOptions(), HTTP_LISTENER_DEFAULTS)
  const base = resolveHttpListenerOptions({ headTimeoutMs: 5 })
  const resolved = resolveHttpListenerOptions({ maxUriBytes: 900 }, base)
  assert.deepEqual([resolved.headTimeoutMs, resolved.maxUriBytes, resolved.backlog], [5, 900, HTTP_LISTENER_DEFAULTS.backlog])
  assert.ok(Object.isFrozen(resolved))
  assert.equal(
    resolveHttpListenerOptions({ maxUriBytes: undefined } as unknown as HttpListenerOptions).maxUriBytes,
    HTTP_LISTENER_DEFAULTS.maxUriBytes,
  )
})

test('http listener options: every mistake is told at once, with what would do', () => {
  const wrong = {
    headTimeoutMs: -5, maxConnections: 1.5, allowConnect: 'yes', connectionFilter: 'all', maxBananas: 1,
    maxUriBytes: Number.NaN, backlog: 2 ** 60,
  } as unknown as HttpListenerOptions
  assert.throws(() => resolveHttpListenerOptions(wrong), (error: Error) => {
    const lines = error.message.split('\n')
    assert.deepEqual(lines.map(line => /^listener\.(\w+) /.exec(line)?.[1]), Object.keys(wrong))
    assert.match(error.message, /headTimeoutMs is -5; use a positive number of milliseconds/)
    assert.match(error.message, /maxConnections is 1\.5; use 0 \(turns it off\) or a positive whole number/)
    assert.match(error.message, /maxBananas is not an option/)
    return error instanceof TypeError
  })
})
