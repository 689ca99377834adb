import assert from 'node:assert/strict'
import test from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { ServedCertificate, ServedCertificates } from '../../src/certificates/served-certificates.ts'
import { resolveSupervisorOptions } from '../../src/config/supervisor-options.ts'
import { ChannelError } from '../../src/ipc/channel.ts'
import type { ToWorker } from '../../src/ipc/messages.ts'
import { CertificateDesk, type CertificateFleet } from '../../supervisor/certificate-desk.ts'
import type { Generation } from '../../supervisor/generation.ts'
import { Intent, WorkerProcess, WorkerState, type WorkerLink } from '../../supervisor/worker-process.ts'
import { FakeProcessHost } from '../support/fake-process-host.ts'

const DAY = 86_400_000
const HOUR = 3_600_000

function served(more: Partial<ServedCertificate> = {}): ServedCertificate {
  return {
    listener: 'web/:443', names: ['a.test'], moreNames: 0, file: '/a.crt', keyFile: '/a.key', issuer: 'CN=x', keyType: 'ec',
    fingerprint: 'AB', notBefore: 0, notAfter: 90 * DAY, outcome: 'first', since: 1, reason: '', ...more,
  }
}

class Bench {
  readonly host = new FakeProcessHost()
  readonly lines: string[] = []
  readonly asked: string[] = []
  readonly workers: WorkerProcess[] = []
  speaksTls = true
  maxControlMessageBytes = 1_048_576
  readonly desk: CertificateDesk

  constructor() {
    const log = (message: string, fields?: object): void => { this.lines.push(`${message} ${JSON.stringify(fields ?? {})}`) }
    const generation = (): Generation => ({ description: { listeners: this.speaksTls ? [{ tls: {} }] : [{}] } }) as unknown as Generation
    const { workers } = this, options = resolveSupervisorOptions({ maxControlMessageBytes: this.maxControlMessageBytes })
    const fleet: CertificateFleet = {
      * workers() { yield* workers }, generationOf: generation, get generation() { return generation() }, options,
    }
    this.desk = new CertificateDesk({ host: this.host, log: { info: log, warn: log, error: log }, wallMs: () => 0, fleet: () => fleet })
  }

  worker(answer: () => ServedCertificates | Promise<ServedCertificates>, state: WorkerState = WorkerState.Accepting): this {
    const worker = new WorkerProcess({ generation: 1, slot: this.workers.length, n: 0, token: 't', startedAtMs: 0, intent: Intent.Serve })
    const link: WorkerLink = {
      ask: async (order: ToWorker) => {
        this.asked.push(`${worker.id} ${JSON.stringify(order)}`)
        return answer()
      },
      send() {}, close() {},
    }
    worker.state = state
    worker.connect(link)
    this.workers.push(worker)
    return this
  }
}

const all = (...certificates: readonly ServedCertificate[]): (() => ServedCertificates) => () => ({ certificates, more: 0 })

test('certificate desk: what all workers serve is one row, and one that serves something else shows', async () => {
  const bench = new Bench()
  bench.worker(all(served({ outcome: 'swapped', since: 500 }))).worker(all(served({ since: 900 })))
  bench.worker(all(served({ fingerprint: 'CD', outcome: 'refused', reason: 'no pair' })))
  const { certificates, workers, silent, more, tls } = await bench.desk.list(false)
  assert.deepEqual(certificates.map(({ fingerprint, workers: by }) => [fingerprint, by.join()]), [['CD', '1.2.0'], ['AB', '1.0.0,1.1.0']])
  assert.deepEqual([certificates[1]!.outcome, certificates[1]!.since], ['swapped', 500], 'one that came later has read it at its start')
  assert.deepEqual([workers.length, silent, more, tls], [3, [], 0, true])
  assert.deepEqual(bench.asked[0], '1.0.0 {"tag":"certificates","reload":false}')
})

test('certificate desk: workers that drain or start are not asked, and one that cannot tell is named', async () => {
  const bench = new Bench()
  bench.worker(all(served())).worker(all(), WorkerState.Draining).worker(all(), WorkerState.Starting)
  bench.worker(() => { throw new ChannelError('unknown', 'x') }).worker(() => { throw new ChannelError('timeout', 'late') })
  const { workers, silent } = await bench.desk.list(true)
  assert.deepEqual(workers, ['1.0.0'])
  assert.deepEqual(silent, [{ worker: '1.3.0', reason: 'it is of a build that cannot tell' }, { worker: '1.4.0', reason: 'late' }])
  assert.equal(bench.asked.length, 3)
})

test('certificate desk: without TLS nobody is asked', async () => {
  const bench = new Bench()
  bench.speaksTls = false
  bench.worker(all(served()))
  assert.deepEqual(await bench.desk.list(true), { certificates: [], more: 0, workers: [], silent: [], tls: false })
  assert.deepEqual(bench.asked, [])
})

test('certificate desk: the answer fits into a message, the most urgent first', async () => {
  const bench = new Bench()
  const many = Array.from({ length: 9_000 }, (_, index) => served({ file: `/${index}.crt`, notAfter: index }))
  bench.worker(all(...many)).worker(() => ({ certificates: many.slice(0, 10), more: 4 }))
  const { certificates, more } = await bench.desk.list(false)
  assert.ok(Buffer.byteLength(JSON.stringify(certificates)) < bench.maxControlMessageBytes)
  assert.equal(certificates[0]!.file, '/0.crt')
  assert.equal(more, 9_000 - certificates.length + 4)
})

test('certificate desk: once a day the log says what comes to its end, whatever the number of workers', async () => {
  const bench = new Bench()
  const soon = served({ file: '/soon.crt', notAfter: 12.5 * DAY }), over = served({ file: '', names: ['b.test'], notAfter: -1 })
  bench.worker(all(soon, over, served())).worker(all(soon, over, served()))
  bench.desk.begin()
  bench.desk.begin()
  const settle = async (ms: number): Promise<void> => {
    bench.host.clock.advance(ms)
    await turn()
  }
  await settle(60_000)
  const said = [
    'a certificate is expired since 1969-12-31 {"listener":"web/:443","certificate":"b.test"}',
    'a certificate expires in 12 days, on 1970-01-13 {"listener":"web/:443","certificate":"/soon.crt"}',
  ]
  assert.deepEqual(bench.lines, said)
  await settle(23 * HOUR)
  assert.equal(bench.lines.length, 2)
  await settle(HOUR)
  assert.deepEqual(bench.lines, [...said, ...said])
  bench.desk.end()
  await settle(2 * DAY)
  assert.equal(bench.lines.length, 4)
})

test('certificate desk: of very many the log names some, and counts the others', async () => {
  const bench = new Bench()
  bench.worker(all(...Array.from({ length: 50 }, (_, index) => served({ file: `/${index}.crt`, notAfter: DAY }))))
  bench.desk.begin()
  bench.host.clock.advance(60_000)
  await turn()
  assert.equal(bench.lines.length, 21)
  assert.match(bench.lines.at(-1)!, /and 30 more certificates/)
})
