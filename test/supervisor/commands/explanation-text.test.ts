/** What an explanation says to a person. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { ExplainedByWorker, ExplainedOutcome, Explanation } from '../../../src/ipc/explanation.ts'
import { explanationText } from '../../../supervisor/commands/explanation-text.ts'

const EXPLANATION: Explanation = {
  service: 'edge', listener: 'edge/0.0.0.0:80', outcome: 'forwarded', detail: '', filter: '', later: [], choices: [], answer: null,
  error: null,
  hooks: [
    { hook: 'requestFilter of module auth', said: 'continue', ms: 0.1234, changed: '' },
    { hook: 'requestFilter', said: 'continue', ms: 12, changed: 'target is now /v2/x' },
    { hook: 'upstreamPeer', said: '10.0.0.2:80', ms: 0, changed: '' }, { hook: 'upstreamRequestFilter', said: '', ms: 0, changed: '' },
  ],
  peer: { name: '10.0.0.2:80', tls: false, sni: '', proxy: '' },
  upstream: { method: 'GET', target: '/v2/x', fields: [['Host', 'example.com'], ['Authorization', '***']], fieldsLeftOut: 0 },
}
const EXPLAINED: ExplainedByWorker = {
  worker: '1.0.0', listeners: ['edge/0.0.0.0:80', 'edge/10.0.0.1:80'], explanation: EXPLANATION,
  request: { listener: 'edge/0.0.0.0:80', method: 'GET', target: '/x', headers: [], from: '10.9.8.7' },
}

test('explanation: a request that is forwarded', () => {
  const candidate = { weight: 1, ready: true, enabled: true, healthy: true, passive: 'in', reason: '', inFlight: 0 } as const
  const choice = {
    balancer: 'api', selection: 'round-robin', key: '', chosen: '10.0.0.2:80', candidatesLeftOut: 0,
    candidates: [
      { ...candidate, name: '10.0.0.1:80', ready: false, passive: 'out', reason: 'an attempt failed' } as const,
      { ...candidate, name: '10.0.0.2:80', weight: 3, inFlight: 2 }, { ...candidate, name: '10.0.0.3:80', ready: false, enabled: false },
    ],
  }
  const explanation = { ...EXPLANATION, choices: [choice], later: ['responseFilter', 'logging'] }
  assert.equal(explanationText({ ...EXPLAINED, explanation }), `\
GET /x, from 10.9.8.7, asked in worker 1.0.0
listener edge/0.0.0.0:80 of service edge
  the URL could also lead to edge/10.0.0.1:80; --listener says which
hooks
  requestFilter of module auth             continue  0.12 ms
  requestFilter                            continue  12.0 ms; target is now /v2/x
  upstreamPeer                             10.0.0.2:80  0.00 ms
  upstreamRequestFilter                    ran  0.00 ms
  behind that, and not run here: responseFilter, logging
load balancer api: 10.0.0.2:80, by round-robin, of 3 backends
  1 get traffic
    10.0.0.1:80                            weight 1, 0 in flight, out for failed attempts (an attempt failed)
  * 10.0.0.2:80                            weight 3, 2 in flight, ready
    10.0.0.3:80                            weight 1, 0 in flight, disabled
peer 10.0.0.2:80
sent to it
  GET /v2/x
  Host: example.com
  Authorization: ***
outcome: it would be sent to 10.0.0.2:80; nothing was`)
})

function outcomeOf(changes: Partial<Explanation>): string {
  return explanationText({ ...EXPLAINED, explanation: { ...EXPLANATION, peer: null, upstream: null, hooks: [], ...changes } })
    .split('\n').find(line => line.startsWith('outcome: '))!.slice('outcome: '.length)
}

test('explanation: each outcome says who, why, and what the client gets', () => {
  const error = { kind: 'HOOK_FAILED', message: 'HOOK_FAILED (internal): requestFilter: no', status: 500, hook: 'requestFilter', stack: '' }
  const answer = { status: 403, fields: [], fieldsLeftOut: 0, hook: 'requestFilter of module auth' }
  const outcomes: readonly [Partial<Explanation>, string][] = [
    [{ outcome: 'answered', answer }, 'requestFilter of module auth answers with 403'],
    [{ outcome: 'answered', answer: { ...answer, hook: '' } }, 'the proxy itself answers with 403'],
    [{ outcome: 'failed', error }, `it fails in requestFilter: ${error.message}; the client gets 500`],
    [
      { outcome: 'failed', error, later: ['failToProxy'] },
      `it fails in requestFilter: ${error.message}; the client gets 500, unless failToProxy answers`,
    ],
    [{ outcome: 'failed', error: { ...error, hook: '', status: 0 } }, `it fails: ${error.message}; the connection is cut`],
    [
      { outcome: 'refused', error: { ...error, message: 'too long', hook: '', status: 414 } },
      'it is refused before any hook sees it: too long; the client gets 414',
    ],
    [{ outcome: 'turned-away', filter: 'turns it away' }, 'the connection is reset before anything is read'],
    [{ outcome: 'unfinished', detail: 'it waits for requestFilter' }, 'nothing has come of it in time: it waits for requestFilter'],
  ]
  for (const [changes, text] of outcomes) assert.equal(outcomeOf(changes), text)
})

test('explanation: whatever is in it, nothing acts on a terminal', () => {
  const text = fc.oneof(fc.string({ unit: 'binary', maxLength: 300 }), fc.constant('\u001B[2J\r\n\u009B31m')), flag = fc.boolean()
  const fields = fc.array(fc.tuple(text, text), { maxLength: 3 }), count = fc.nat(3), ms = fc.double({ noNaN: true, min: 0, max: 1e6 })
  const outcome = fc.constantFrom<ExplainedOutcome>('forwarded', 'answered', 'failed', 'refused', 'turned-away', 'unfinished')
  const candidate = fc.record({
    name: text, weight: count, ready: flag, enabled: flag, healthy: flag, passive: fc.constantFrom('in', 'out', 'trial'), reason: text,
    inFlight: count,
  })
  const explanation: fc.Arbitrary<Explanation> = fc.record({
    service: text, listener: text, outcome, detail: text, filter: fc.constantFrom('', 'lets it in', 'failed'),
    later: fc.array(text, { maxLength: 3 }),
    hooks: fc.array(fc.record({ hook: text, said: fc.option(text), ms, changed: text }), { maxLength: 3 }),
    choices: fc.array(fc.record({
      balancer: text, selection: text, key: text, chosen: text, candidates: fc.array(candidate, { maxLength: 3 }), candidatesLeftOut: count,
    }), { maxLength: 2 }),
    peer: fc.option(fc.record({ name: text, tls: flag, sni: text, proxy: text })),
    upstream: fc.option(fc.record({ method: text, target: text, fields, fieldsLeftOut: count })),
    answer: fc.option(fc.record({ status: fc.nat(999), fields, fieldsLeftOut: count, hook: text })),
    error: fc.option(fc.record({ kind: text, message: text, status: fc.nat(999), hook: text, stack: text })),
  })
  fc.assert(fc.property(explanation, text, (one, worker) => {
    const request = { listener: worker, method: worker, target: worker, headers: [], from: worker }
    assert.match(explanationText({ worker, listeners: [worker, 'other'], request, explanation: one }), /^[\x20-\x7E\n]*$/)
  }), { numRuns: 500 })
})
