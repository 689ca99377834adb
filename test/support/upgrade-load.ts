/**
 * Clients of every kind in front of a server that is being replaced: those of the proof client (src/prove: fresh
 * connections, keep-alive and WebSockets 20 ms away, a slow download, a slow upload; over HTTP/2 requests, streams of messages and
 * WebSockets), the same over TLS with handshakes that resume and that stop at every stage, and a few whose answers say who gave them.
 * None of them ever repeats a request, but a stream that GOAWAY says was not looked at.
 */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { FAULTS, HTTP2_POPULATIONS } from '../../src/config/prove-messages.ts'
import type { Fault, Kill, LossReport, PopulationReport } from '../../src/config/prove-messages.ts'
import { resolveProveOptions } from '../../src/config/prove-options.ts'
import { systemClock } from '../../src/primitives/clock.ts'
import { Proof } from '../../src/prove/proof.ts'
import { TLS_HOST } from './release-folder.ts'
import { SteadyLoad, type Ledger } from './steady-load.ts'
import { waitFor } from './wait-for.ts'

const RATE = 40
const CONNECTIONS = 8
/** Handshakes cost both sides more than all the rest. */
const TLS_RATE = 20
/** How long a slow transfer takes; then the next one begins. */
const TRANSFER_MS = 2_000
/** More than the kernel holds between origin and client. */
const DOWNLOAD_BYTES = 16 * 1024 * 1024
const UPLOAD_BYTES = 4 * 1024 * 1024

export interface LoadResult {
  readonly attempted: number
  /** Faults that no kill explains, a line each. */
  readonly lost: readonly string[]
  readonly explained: number
  /** Answers of `/`, by `release pid`. */
  readonly answeredBy: Readonly<Record<string, number>>
  /** Sessions of TLS that were offered and not taken up. */
  readonly refusedSessions: number
}

export class UpgradeLoad {
  readonly #t: TestContext
  /** Of plain connections, and of those over TLS. */
  readonly #proofs: readonly Proof[]
  readonly #witness: SteadyLoad | null
  #stopped: Promise<LoadResult> | null = null
  #kill: Kill | null = null
  #expected: RegExp | null = null

  private constructor(t: TestContext, proofs: readonly Proof[], witness: SteadyLoad | null) {
    this.#t = t
    this.#proofs = proofs
    this.#witness = witness
  }

  /**
   * Resolves when every client has been answered at least once.
   * @param tlsPort null: nobody comes over TLS
   * @param witnessed false where workers are killed: what their clients lose has no explanation.
   */
  static async start(t: TestContext, { port, tlsPort }: { port: number; tlsPort: number | null }, witnessed = true): Promise<UpgradeLoad> {
    const urls: (readonly [url: string, rate: number])[] = [[`http://127.0.0.1:${port}`, RATE]]
    if (tlsPort !== null) urls.push([`https://${TLS_HOST}:${tlsPort}`, TLS_RATE])
    const proofs = await Promise.all(urls.map(([url, rate]) => Proof.prepare(resolveProveOptions({
      url, path: '/', ws: '/ws', download: `/download?bytes=${DOWNLOAD_BYTES}`, upload: '/upload', messages: '/messages', http2: true,
      rate, connections: CONNECTIONS, beforeMs: 0, forMs: TRANSFER_MS, uploadBytes: UPLOAD_BYTES, timeoutMs: 10_000,
    }))))
    for (const proof of proofs) {
      proof.start()
      proof.enter('during')
    }
    const load = new UpgradeLoad(t, proofs, witnessed ? new SteadyLoad({ to: port, fresh: 2, keepAlive: 4, pauseMs: 30 }) : null)
    // When the test has not come to its end, what is lost by now says nothing.
    t.after(() => load.#stopped ?? load.#end())
    await load.goesOn()
    return load
  }

  /** Resolves when a good deal more has been answered. */
  async goesOn(): Promise<void> {
    const before = this.#answered()
    await waitFor('more load', () => this.#answered() > before + 60, { deadlineMs: 20_000, seen: () => this.#answered() })
  }

  /** Answers of `/` so far, by `release pid`. */
  get answeredBy(): Readonly<Record<string, number>> { return this.#witness?.ledger.bodies ?? {} }

  /** Answers so far that came whole and were errors, or not what was asked for. */
  get wrong(): number {
    const ofProof = this.#populations().reduce((sum, { outcomes }) => sum + outcomes.wrong, 0)
    return ofProof + (this.#witness?.ledger.failed['wrong answer'] ?? 0)
  }

  /** What workers that are killed inside have accepted is lost with them, and that alone. */
  async killing(kill: () => Promise<unknown>): Promise<void> {
    const atMs = this.#kill?.atMs ?? systemClock.exact()
    await kill()
    this.#kill = { atMs, goneAtMs: systemClock.exact() }
  }

  /** Everything that was begun ends first. */
  stop(): Promise<LoadResult> { return this.#stopped ??= this.#stop() }

  /** The claim of all of this. @param but what a broken release may do to them. */
  async losesNothing(but: RegExp | null = null): Promise<LoadResult> {
    this.#expected = but
    const result = await this.stop()
    assert.deepEqual(result.lost, [])
    // Every worker there ever was has the keys of tickets, whoever made the worker and whichever supervisor there was.
    assert.equal(result.refusedSessions, 0, 'sessions of TLS were not taken up again')
    return result
  }

  async #end(): Promise<Ledger | undefined> {
    const [ledger] = await Promise.all([this.#witness?.stop(), ...this.#proofs.map(proof => proof.finish())])
    return ledger
  }

  async #stop(): Promise<LoadResult> {
    const ledger = await this.#end()
    const reports = this.#proofs.map(proof => proof.report(this.#kill))
    const losses = reports.flatMap(report => report.losses.filter(loss => !loss.explained))
    const populations = reports.flatMap(report => report.populations)
    const explainedByKill = reports.reduce((sum, report) => sum + report.explained, 0)
    const faulty = losses.map(lossText)
    for (const { how } of ledger?.lost ?? []) faulty.push(`witness: ${how}`)
    const lost = faulty.filter(line => this.#expected?.test(line) !== true)
    const witnessed = ledger === undefined ? 0 : ledger.ok + ledger.lost.length
    const attempted = reports.reduce((sum, report) => sum + report.attempted, witnessed)
    const outcomes = (fault: Fault): number => populations.reduce((sum, population) => sum + population.outcomes[fault], 0)
    const counts = FAULTS.map(fault => [fault, outcomes(fault)] as const).filter(([, count]) => count > 0)
    const faults = counts.map(([fault, count]) => `${count} ${fault}`).join(', ')
    const expected = faulty.length === lost.length ? '' : `, ${faulty.length - lost.length} as expected`
    const explained = explainedByKill === 0 ? '' : `, ${explainedByKill} explained by a kill`
    const details = faults === '' ? '' : ` (${faults})`
    this.#t.diagnostic(`load: ${attempted} attempted, ${lost.length} lost${expected}${explained}${details}`)
    const refusedSessions = populations.reduce((sum, population) => sum + population.refusedSessions, 0)
    const resumed = populations.find(({ name }) => name === 'resumed handshakes')?.outcomes.ok ?? 0
    const overHttp2 = populations.filter(({ name }) => HTTP2_POPULATIONS.has(name))
    const sum = (count: (population: PopulationReport) => number): number => overHttp2.reduce((all, each) => all + count(each), 0)
    const streams = `${sum(each => each.outcomes.ok)} ok, ${sum(each => each.reopenedStreams)} opened anew`
    this.#t.diagnostic(`over HTTP/2: ${streams}, ${sum(each => each.politeCloses)} connections ended in order`)
    if (resumed > 0) this.#t.diagnostic(`sessions of TLS: ${resumed} offered, ${refusedSessions} refused`)
    return { attempted, lost, explained: explainedByKill, answeredBy: ledger?.bodies ?? {}, refusedSessions }
  }

  #populations(): PopulationReport[] { return this.#proofs.flatMap(proof => proof.report(null).populations) }

  #answered(): number {
    return this.#populations().reduce((sum, { outcomes }) => sum + outcomes.ok, 0) + (this.#witness?.ledger.ok ?? 0)
  }
}

function lossText({ population, fault, atMs, connectionAgeMs, detail }: LossReport): string {
  const age = connectionAgeMs === null ? 'never there' : `${Math.round(connectionAgeMs)} ms old`
  return `${population}: ${fault} after ${Math.round(atMs)} ms, connection ${age}: ${detail}`
}
