import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LISTENER_DEFAULTS, resolveListenerOptions, type ListenerOptions } from '../../src/listener/listener-options.ts'

test('listener options: what is left out is the default, or what the service says', () => {
  assert.deepEqual(resolveListenerOptions(), LISTENER_DEFAULTS)
  const base = resolveListenerOptions({ headTimeoutMs: 5 })
  const resolved = resolveListenerOptions({ maxUriBytes: 9 }, base)
  assert.deepEqual([resolved.headTimeoutMs, resolved.maxUriBytes, resolved.backlog], [5, 9, LISTENER_DEFAULTS.backlog])
  assert.ok(Object.isFrozen(resolved))
  assert.equal(resolveListenerOptions({ maxUriBytes: undefined } as unknown as ListenerOptions).maxUriBytes, LISTENER_DEFAULTS.maxUriBytes)
})

test('listener options: every mistake is told at once, with what would do', () => {
  const wrong = {
    headTimeoutMs: -5, maxConnections: 1.5, allowConnect: 'yes', connectionFilter: 'all', maxBananas: 1,
    maxUriBytes: Number.NaN, backlog: 2 ** 60,
  } as unknown as ListenerOptions
  assert.throws(() => resolveListenerOptions(wrong), (error: Error) => {
    const lines = error.message.split('\n')
    assert.deepEqual(lines.map(line => /^listener\.(\w+) /.exec(line)?.[1]), Object.keys(wrong))
    assert.match(error.message, /headTimeoutMs is -5; use a positive whole number of milliseconds/)
    assert.match(error.message, /maxConnections is 1\.5; use 0 \(off\) or a positive whole number/)
    assert.match(error.message, /maxBananas is not an option/)
    return error instanceof TypeError
  })
})

test('listener options: 0 is taken exactly where the documentation says what it means', async () => {
  const { readFile } = await import('node:fs/promises')
  const files = ['src/listener/listener-options.ts', 'src/protocols/http1/http1-options.ts']
  const texts = await Promise.all(files.map(file => readFile(new URL(`../../${file}`, import.meta.url), 'utf8')))
  const documented = new Set<string>()
  for (const text of texts) {
    for (const [, doc, name] of text.matchAll(/\/\*\* ([^\n]*) \*\/\n {2}(\w+)\?:/g)) {
      if (/\b0 turns it off/.test(doc!)) documented.add(name!)
    }
  }
  for (const [name, value] of Object.entries(LISTENER_DEFAULTS)) {
    if (typeof value !== 'number') continue
    let taken = true
    try { resolveListenerOptions({ [name]: 0 }) } catch { taken = false }
    if (name !== 'maxTrailerCount') assert.equal(taken, documented.has(name), name)
  }
})
