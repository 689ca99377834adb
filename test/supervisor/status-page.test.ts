/** The script of the status page, run as a browser runs it: with a document, and answers to what it asks. */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import vm from 'node:vm'
import fc from 'fast-check'
import { figuresOf } from '../../supervisor/figures.ts'
import type { Sample } from '../../supervisor/sample.ts'
import { pageOf, textOf } from '../../supervisor/status-page.ts'
import { anySample, HOSTILE_NAMES, LISTENER, SAMPLE, slotOf, twoSamples, UPSTREAM, workerOf } from '../support/samples.ts'

const HTML = fs.readFileSync(path.join(import.meta.dirname, '../../supervisor/status-page.html'), 'utf8')
const SCRIPT = textOf(HTML, 'script')

/** Their parts are read one by one. */
const BLOCKS = ['tr', 'ul', 'ol', 'thead', 'tbody', 'div', 'main', 'section']

/** What of a document the page uses. Whatever else it would touch is missing, and throws. */
class FakeNode {
  readonly nodeType: 1 | 3
  readonly localName: string
  data = ''
  readonly childNodes: FakeNode[] = []
  readonly attributes = new Map<string, string>()

  constructor(nodeType: 1 | 3, localName: string) {
    this.nodeType = nodeType
    this.localName = localName
  }

  get lastChild(): FakeNode | undefined { return this.childNodes.at(-1) }
  getAttribute(name: string): string | null { return this.attributes.get(name) ?? null }
  getAttributeNames(): string[] { return [...this.attributes.keys()] }
  setAttribute(name: string, value: unknown): void {
    assert.equal(typeof value, 'string', `${this.localName} has ${name}=${String(value)}`)
    this.attributes.set(name, value as string)
  }
  removeAttribute(name: string): void { this.attributes.delete(name) }
  appendChild(node: FakeNode): void { this.childNodes.push(node) }
  replaceChild(node: FakeNode, old: FakeNode): void { this.childNodes.splice(this.childNodes.indexOf(old), 1, node) }
  removeChild(node: FakeNode): void { this.childNodes.splice(this.childNodes.indexOf(node), 1) }

  /** As it reads: cells and blocks apart. */
  get text(): string {
    if (this.nodeType === 3) return this.data
    return this.childNodes.map(node => node.text).join(BLOCKS.includes(this.localName) ? '|' : '')
  }

  *all(): Generator<FakeNode> {
    yield this
    for (const child of this.childNodes) yield* child.all()
  }
}

class FakeBrowser {
  readonly parts = new Map(['head', 'alerts', 'page'].map(id => [id, new FakeNode(1, id === 'page' ? 'main' : 'div')]))
  title = ''
  visibilityState = 'visible'
  /** What the next question is answered with; null: not at all. */
  answer: Sample | null
  asked = 0
  nowMs = 0
  readonly #timers: (() => void)[] = []
  readonly #onVisible: (() => void)[] = []
  readonly context: vm.Context

  constructor(first: Sample | null = SAMPLE) {
    this.answer = first
    const document = Object.defineProperties({
      getElementById: (id: string) => this.parts.get(id),
      createElement: (tag: string) => new FakeNode(1, tag), createElementNS: (_: string, tag: string) => new FakeNode(1, tag),
      createTextNode: (text: string) => Object.assign(new FakeNode(3, '#text'), { data: text }),
      addEventListener: (_: string, listener: () => void) => { this.#onVisible.push(listener) },
    }, {
      title: { set: (title: string) => { this.title = title } },
      visibilityState: { get: () => this.visibilityState },
    })
    this.context = vm.createContext({
      document, AbortSignal, performance: { now: () => this.nowMs },
      setTimeout: (run: (...args: unknown[]) => void, _: number, ...args: unknown[]) => { this.#timers.push(() => run(...args)) },
      fetch: async (url: string) => {
        this.asked++
        assert.equal(url, 'status.json')
        if (this.answer === null) throw new TypeError('Failed to fetch')
        const text = JSON.stringify(this.answer)
        // As the browser makes it: of the page's own world.
        return { ok: true, json: async () => vm.runInContext(`JSON.parse(${JSON.stringify(text)})`, this.context) as unknown }
      },
    })
    vm.runInContext(SCRIPT, this.context)
  }

  /** Everything that the page has begun is done. */
  settle(): Promise<void> { return new Promise(resolve => { setImmediate(resolve) }) }

  /** The next time that the page asks. */
  async next(answer: Sample | null): Promise<void> {
    this.answer = answer
    this.nowMs += 1_000
    const due = this.#timers.splice(0)
    assert.equal(due.length, 1, 'one question is under way at most')
    due[0]!()
    await this.settle()
  }

  isSeenAgain(): void { for (const listener of this.#onVisible.splice(0)) listener() }
  get waits(): boolean { return this.#onVisible.length > 0 && this.#timers.length === 0 }
  get page(): FakeNode { return this.parts.get('page')! }
  text(part: string): string { return this.parts.get(part)!.text.replaceAll('\u00A0', ' ') }
  [Symbol.dispose](): void { this.#timers.length = 0 }
}

/** As values of this world, where what is equal is equal. */
function own(value: unknown): unknown {
  if (value === null || typeof value !== 'object') return value
  const isMap = Object.prototype.toString.call(value) === '[object Map]'
  if (isMap) return new Map(Array.from(value as Map<unknown, unknown>, ([key, one]) => [key, own(one)]))
  if (Array.isArray(value)) return Array.from(value, own)
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, own(one)]))
}

test('status page: its figures are those of the command line, whatever the samples', () => {
  const context = vm.createContext({})
  vm.runInContext(SCRIPT, context)
  const ofPage = context['figuresOf'] as typeof figuresOf
  fc.assert(fc.property(twoSamples, ([before, after]) => { assert.deepEqual(own(ofPage(before, after)), own(figuresOf(before, after))) }))
  assert.equal(ofPage(SAMPLE, SAMPLE), null)
})

test('status page: a server is there with its workers, what passes, what fails and why', async () => {
  const browser = new FakeBrowser({ ...SAMPLE, slots: [slotOf(0)], listeners: [LISTENER] })
  await browser.settle()
  assert.match(browser.text('page'), /A second sample is on its way/)
  await browser.next({
    ...SAMPLE, takenAtMs: 61_000, open: { ...SAMPLE.open, connections: 12, poolIdle: 3 },
    slots: [
      slotOf(0, [
        workerOf(0, 'current', { requests: 1240 }), workerOf(0, 'draining', { id: '6.0.0', drainingMs: 1_000, drainEndsInMs: 29_000 }),
      ]),
      { ...slotOf(1, []), standIn: '7.0.0' },
    ],
    listeners: [{ ...LISTENER, requests: [['2xx', '-', 230], ['5xx', 'UC', 10]], durations: [0, 240] }],
    upstreams: [{ ...UPSTREAM, attempts: 240, errors: [['CONNECT_REFUSED', 12]], reused: 19, fresh: 1 }],
    flags: [['UC', 'the upstream could not be reached']], limits: [['head-bytes', 5]], notices: ['look at this'],
    changes: [{
      id: 'upgrade-2', kind: 'upgrade', result: 'rolled-back', reason: 'it was slow', generation: 7, release: 'next',
      steps: [{ step: 'canary', ms: 1_200 }], endedAtMs: 31_000,
    }],
  })
  assert.match(browser.text('head'), /^Ready\|cirque 1\.2\.3app\.tsrelease 2026-11-21generation 7up 1m1s/)
  assert.equal(browser.text('alerts'), 'upgrade-2 was rolled back 30s ago: it was slow|look at this')
  const page = browser.text('page')
  for (const part of [
    'Requests240a second', 'Answered 5xx4.2%', 'Workers1of 2 accepting', 'loop delay up to 1.5 ms',
    '7.0.0 slot 0, pid 5000|accepting|1m0s|12|240|3|1.5 ms|25.0 %|90 MiB|0',
    'draining for 1s, what is left is cut in 29s', 'slot 1 waiting, served by 7.0.0', '5xx UC 4.2 % |the upstream could not be reached',
    'CONNECT_REFUSED |12 a second', '240|5.0 %|0 %', '95.0 %', 'head-bytes|5.0|5', 'upgrade-2 rolled back 30s ago: it was slow|canary 1.2s',
  ]) assert.ok(page.includes(part) || page.replaceAll('|', '').includes(part.replaceAll('|', '')), `${part} in ${page}`)
  assert.equal(browser.title, 'Ready \u00B7 cirque app.ts')
})

test('status page: nodes stay where they are from one answer to the next, so that what is selected stays selected', async () => {
  const browser = new FakeBrowser({ ...SAMPLE, slots: [slotOf(0)] })
  await browser.settle()
  const at = (second: number): Sample => {
    const workers = [workerOf(0, 'current', { requests: second ** 2 })]
    const listeners = [{ ...LISTENER, requests: [['2xx', '-', second ** 2]] as const }]
    return { ...SAMPLE, takenAtMs: second * 1000, slots: [slotOf(0, workers)], listeners }
  }
  for (let second = 61; second < 64; second++) await browser.next(at(second))
  const before = [...browser.page.all()], text = browser.text('page')
  await browser.next(at(64))
  assert.notEqual(browser.text('page'), text)
  assert.deepEqual([...browser.page.all()].map((node, index) => node === before[index]), before.map(() => true))
})

test('status page: while there is no answer it says so, and what is there is marked as old', async () => {
  const browser = new FakeBrowser(null)
  await browser.settle()
  assert.equal(browser.text('alerts'), 'No answer from the server. Asking again each second.')
  await browser.next(SAMPLE)
  assert.equal(browser.text('alerts'), '')
  await browser.next(null)
  await browser.next(null)
  assert.equal(browser.text('alerts'), 'No answer from the server for 2s; what is below is as it was then. Asking again each second.')
  assert.equal(browser.page.getAttribute('class'), 'stale')
  await browser.next({ ...SAMPLE, version: '1.3.0', takenAtMs: 70_000 })
  assert.equal(browser.page.getAttribute('class'), '')
  assert.equal(browser.text('alerts'), 'The server is version 1.3.0 by now: load this page again.')
})

test('status page: a tab that nobody sees asks nothing, and goes on when it is seen', async () => {
  const browser = new FakeBrowser()
  await browser.settle()
  browser.visibilityState = 'hidden'
  await browser.next(SAMPLE)
  assert.deepEqual([browser.asked, browser.waits], [1, true])
  browser.visibilityState = 'visible'
  browser.isSeenAgain()
  await browser.settle()
  assert.equal(browser.asked, 2)
})

test('status page: names are text and nothing else, whatever is in them', async () => {
  const listeners = HOSTILE_NAMES.map(name => ({ ...LISTENER, name, address: name }))
  const upstreams = HOSTILE_NAMES.map(name => ({ ...UPSTREAM, name, errors: [[name, 3]] as const }))
  const before = { ...SAMPLE, listeners: [], upstreams: [] }
  const limits = HOSTILE_NAMES.map(name => [name, 1] as const)
  const after: Sample = { ...SAMPLE, takenAtMs: 61_000, listeners, upstreams, limits, notices: HOSTILE_NAMES }
  const browser = new FakeBrowser(before)
  await browser.settle()
  await browser.next(after)
  const nodes = [...browser.page.all(), ...browser.parts.get('alerts')!.all()]
  const texts = new Set(nodes.filter(({ nodeType }) => nodeType === 3).map(({ data }) => data))
  for (const name of HOSTILE_NAMES.filter(one => one !== '_overflow' && one !== '')) assert.ok(texts.has(name), JSON.stringify(name))
  assert.deepEqual(nodes.filter(({ localName }) => ['script', 'img', 'a', 'iframe', 'style'].includes(localName)), [])
  // What could run, or lead elsewhere, is not even there to be misused.
  for (const word of ['innerHTML', 'outerHTML', 'insertAdjacentHTML', 'document.write', 'eval(', 'Function(', 'href', 'onclick']) {
    assert.ok(!SCRIPT.includes(word), word)
  }
  assert.ok(nodes.every(node => node.getAttributeNames().every(name => !name.startsWith('on') && name !== 'style')))
})

test('status page: any answer is drawn, one after the other', async () => {
  await fc.assert(fc.asyncProperty(fc.array(anySample, { minLength: 2, maxLength: 4 }), async samples => {
    const browser = new FakeBrowser()
    await browser.settle()
    for (const sample of samples) {
      await browser.next(sample)
      assert.equal(browser.text('alerts').includes('No answer'), false)
      assert.ok([...browser.page.all()].every(({ data }) => typeof data === 'string' && !/undefined|NaN|\[object/.test(data)))
    }
  }), { numRuns: 50 })
})

test('status page: the policy lets run what is in the file, and a file without a script is none', () => {
  const { headers } = pageOf('<style>a{}</style><script>1</script>')
  assert.match(headers['content-security-policy']!, /script-src 'sha256-a4ayc\/80\/OGda4BO\/1o\/V0etpOqiLx1JwB5S3beHW0s='/)
  assert.throws(() => pageOf('<style></style>'), /no <script>/)
  assert.equal(HTML.match(/<script/g)!.length, 1)
  assert.doesNotMatch(HTML, / style=|https?:\/\/(?!www\.w3\.org\/2000\/svg)|@import|url\(/)
})
