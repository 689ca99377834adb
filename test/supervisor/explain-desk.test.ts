/** Which listener a URL leads to, and which worker is asked. What the worker says: test/server/explain.test.ts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChannelError } from '../../src/ipc/channel.ts'
import type { ToWorker } from '../../src/ipc/messages.ts'
import { explainByWorker, listenersFor, readUrl, type ExplainQuestion, type NamedListener } from '../../supervisor/explain-desk.ts'
import { Refused } from '../../supervisor/refusals.ts'
import { Intent, WorkerProcess, WorkerState } from '../../supervisor/worker-process.ts'

const LISTENERS: readonly NamedListener[] = [
  { name: 'edge/:80', bound: '0.0.0.0:80', ipv6Only: false },
  { name: 'edge/:80/v6', bound: '[::]:80', ipv6Only: true },
  { name: 'admin/10.0.0.1:80', bound: '10.0.0.1:80', ipv6Only: false },
  { name: 'edge/127.0.0.1:0', bound: '127.0.0.1:40123', ipv6Only: false },
  { name: 'edge/[::]:81', bound: '[::]:81', ipv6Only: false },
  { name: 'edge/unix:/run/a.sock', bound: 'unix:/run/a.sock', ipv6Only: false },
]

const leadsTo = (url: string, wanted = ''): string[] => listenersFor(readUrl(url), wanted, LISTENERS)

test('explain desk: a URL leads to the listener with its port, best to the one at exactly its address', () => {
  assert.deepEqual(leadsTo('http://10.0.0.1/x'), ['admin/10.0.0.1:80', 'edge/:80'])
  assert.deepEqual(leadsTo('http://10.0.0.2/'), ['edge/:80'])
  assert.deepEqual(leadsTo('http://[2001:db8::1]/'), ['edge/:80/v6'])
  assert.deepEqual(leadsTo('http://10.0.0.2:81/'), ['edge/[::]:81'], 'it takes both families')
  assert.deepEqual(leadsTo('http://localhost:40123'), ['edge/127.0.0.1:0'])
  assert.deepEqual(leadsTo('HTTP://example.com'), ['edge/:80', 'edge/:80/v6', 'admin/10.0.0.1:80'], 'a name may lead to any of them')
  assert.deepEqual([leadsTo('/x'), leadsTo('*')], [['edge/:80'], ['edge/:80']])
  assert.deepEqual(leadsTo('http://nowhere:9999/', 'edge/unix:/run/a.sock'), ['edge/unix:/run/a.sock'])
})

test('explain desk: what leads nowhere is refused with what there is', () => {
  const refusals: readonly [() => unknown, RegExp][] = [
    [() => leadsTo('http://10.0.0.1:82/'), /^no listener takes what comes to 10\.0\.0\.1:82; there are: edge\/:80 \(0\.0\.0\.0:80\), /],
    [() => leadsTo('http://127.0.0.2:40123/'), /no listener takes/],
    [() => leadsTo('/', 'edge'), /^there is no listener "edge"; there are: edge\/:80/],
    [() => leadsTo('https://example.com/'), /what is explained is a request without TLS; use an http URL, or a path/],
    [() => leadsTo('example.com/x'), /leads to no listener: use an http URL, or a path/],
    [() => leadsTo('http://user:pass@example.com/'), /leads to no listener/],
    [() => leadsTo('http:///x'), /leads to no listener/],
    [() => leadsTo('http://a\u001B[2J/'), /leads to no listener/],
    [() => listenersFor(readUrl('/'), '', []), /no listener is bound/],
  ]
  for (const [run, message] of refusals) assert.throws(run, error => error instanceof Refused && message.test(error.message))
})

test('explain desk: the target stays as it was written, but for a fragment', () => {
  const targets = ['/a/../b?x=%2e', 'http://h/a/../b?x#y', 'http://h?x', 'http://h', '*'].map(url => readUrl(url).target)
  assert.deepEqual(targets, ['/a/../b?x=%2e', '/a/../b?x', '/?x', '/', '*'])
  assert.deepEqual(readUrl('http://[::1]:8080/'), { authority: '[::1]:8080', host: '::1', port: 8080, target: '/' })
})

function workerThat(n: number, answer: (order: ToWorker) => unknown, state: WorkerState = WorkerState.Accepting): WorkerProcess {
  const worker = new WorkerProcess({ generation: 1, slot: 0, n, token: 't', startedAtMs: 0, intent: Intent.Serve })
  worker.state = state
  worker.connect({ ask: async order => answer(order), send() {}, close() {} })
  return worker
}

const QUESTION: ExplainQuestion = {
  tag: 'explain', url: 'http://10.0.0.1/x', method: 'GET', headers: [['X-A', '1']], from: '10.9.8.7', listener: '', worker: '',
}
const unknown = (): never => { throw new ChannelError('unknown', "this build does not know 'explain'") }

test('explain desk: a worker that accepts is asked, with the host of the URL, and one of an older build is passed over', async () => {
  const orders: ToWorker[] = []
  const able = workerThat(2, order => {
    orders.push(order)
    return 'told'
  })
  const workers = [workerThat(0, () => 'draining', WorkerState.Draining), workerThat(1, unknown), able]
  const told = await explainByWorker(QUESTION, LISTENERS, workers)
  assert.deepEqual([told.worker, told.explanation, told.listeners], ['1.0.2', 'told', ['admin/10.0.0.1:80', 'edge/:80']])
  const headers = [['Host', '10.0.0.1'], ['X-A', '1']]
  const request = { listener: 'admin/10.0.0.1:80', method: 'GET', target: '/x', from: '10.9.8.7', headers }
  assert.deepEqual(orders, [{ tag: 'explain', request }])
  const host = await explainByWorker({ ...QUESTION, url: '/x', headers: [['hOST', 'a']] }, LISTENERS, workers)
  assert.deepEqual(host.request.headers, [['hOST', 'a']])
  const unix = await explainByWorker({ ...QUESTION, url: '/x', headers: [], listener: 'edge/unix:/run/a.sock' }, LISTENERS, workers)
  assert.deepEqual(unix.request.headers, [['Host', 'localhost']])
  assert.equal((await explainByWorker({ ...QUESTION, worker: '1.0.0' }, LISTENERS, workers)).explanation, 'draining')
})

test('explain desk: without a worker that could say, it is refused with why', async () => {
  const refusedWith = (text: RegExp) => (error: unknown): boolean => error instanceof Refused && text.test(error.message)
  const old = [workerThat(1, unknown)]
  await assert.rejects(explainByWorker(QUESTION, LISTENERS, old), refusedWith(/worker 1\.0\.1 is of a build that cannot explain/))
  await assert.rejects(explainByWorker(QUESTION, LISTENERS, []), refusedWith(/no worker is there/))
  await assert.rejects(explainByWorker({ ...QUESTION, worker: '9.9.9' }, LISTENERS, old), refusedWith(/there is no worker '9\.9\.9'/))
  const fails = workerThat(1, () => { throw new ChannelError('failed', 'method "G T" is not a token') })
  await assert.rejects(explainByWorker(QUESTION, LISTENERS, [fails]), /is not a token/)
})
