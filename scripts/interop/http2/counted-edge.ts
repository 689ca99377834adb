/**
 * examples/edge.ts as it comes, in processes of its own, and what it has counted: a line of its access log for each request, and its
 * metrics for connections. What clients and origins say of themselves is not asked here.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { scrape, sumOf, type Samples } from '../../../test/support/scraped-metrics.ts'
import { checkout } from '../../bench/contenders.ts'
import { freePorts, ManagedProcess } from '../../bench/managed-process.ts'

/** A line of the access log, as far as it is judged. */
export interface LoggedRequest {
  readonly ts: string
  readonly dur_ms: number
  readonly method: string
  readonly path: string
  readonly proto: string
  /** What the handshake settled on; left out without TLS. */
  readonly alpn?: string
  readonly status: number
  readonly flag: string
  readonly bytes_in?: number
  readonly bytes_out?: number
  readonly up_status?: number
  readonly err?: string
}

/** What came between two questions. */
export interface Seen {
  readonly requests: readonly LoggedRequest[]
  /** Of clients. */
  readonly connections: number
  /** Connections to the origin that were made. */
  readonly dials: number
}

export interface EdgeOptions {
  /** For its state and its log. */
  readonly folder: string
  /** What the recipe takes for ORIGIN. */
  readonly origin: string
  readonly certFile: string
  readonly keyFile: string
  readonly caFile: string
}

const LINES_MAX_MS = 10_000
const SETTLE_MS = 2_000
const START_MAX_MS = 15_000

export class CountedEdge {
  readonly plainPort: number
  readonly tlsPort: number
  readonly #process: ManagedProcess
  readonly #log: string
  readonly #admin: string
  #readBytes = 0
  #before: Samples = new Map()

  private constructor(edge: ManagedProcess, log: string, ports: readonly [number, number, number]) {
    this.#process = edge
    this.#log = log
    this.plainPort = ports[0]
    this.tlsPort = ports[1]
    this.#admin = `127.0.0.1:${ports[2]}`
  }

  static async start({ folder, origin, certFile, keyFile, caFile }: EdgeOptions): Promise<CountedEdge> {
    mkdirSync(folder, { recursive: true })
    const ports = await freePorts(3) as [number, number, number], log = path.join(folder, 'access.log')
    const edge = new ManagedProcess(`edge to ${origin}`, {
      command: path.join(checkout, 'bin/cirque'),
      args: ['run', path.join(checkout, 'examples/edge.ts'), '--workers', '1', '--state-dir', path.join(folder, 'state')],
      env: {
        HTTP_PORT: String(ports[0]), TLS_PORT: String(ports[1]), CERT_FILE: certFile, KEY_FILE: keyFile,
        ORIGIN: origin, ORIGIN_CA_FILE: caFile, LOG: '1',
        CIRQUE_LOG_ACCESS: log, CIRQUE_SUPERVISOR_ADMIN_ADDRESS: `127.0.0.1:${ports[2]}`,
      },
    }, null)
    const started = new CountedEdge(edge, log, ports)
    await started.#ready()
    return started
  }

  /** Its admin listener says so: a request to the ports themselves would be counted. */
  async #ready(): Promise<void> {
    const late = Date.now() + START_MAX_MS
    for (;;) {
      if (this.#process.ended) throw new Error(`${this.#process.name} ended while starting:\n${this.#process.output}`)
      try {
        const { status } = await fetch(`http://${this.#admin}/readyz`)
        if (status === 200) break
      } catch { /* It does not listen yet. */ }
      if (Date.now() > late) throw new Error(`${this.#process.name} is not ready after ${START_MAX_MS} ms:\n${this.#process.output}`)
      await delay(50)
    }
    this.#before = (await scrape(this.#admin)).samples
  }

  /**
   * What came since the last time that this was asked.
   * @param requests how many there should be: lines are written behind their requests, so it waits for them, though not forever;
   * null: something went wrong, and whatever is still to come belongs to that
   */
  async take(requests: number | null): Promise<Seen> {
    const late = Date.now() + LINES_MAX_MS
    if (requests === null) await delay(SETTLE_MS)
    let lines = this.#newLines()
    while (lines.length < (requests ?? 0) && Date.now() < late) {
      await delay(50)
      lines = this.#newLines()
    }
    this.#readBytes += lines.reduce((sum, line) => sum + Buffer.byteLength(line) + 1, 0)
    const { samples } = await scrape(this.#admin), before = this.#before
    this.#before = samples
    const grown = (name: string, labels: RegExp): number => sumOf(samples, name, labels) - sumOf(before, name, labels)
    return {
      requests: lines.map(line => JSON.parse(line) as LoggedRequest),
      connections: grown('cirque_connections_total', /result="accepted"/),
      dials: grown('cirque_upstream_connects_total', /result="ok"/),
    }
  }

  /** Connections of clients that are open, as of the last heartbeat of its worker. */
  async openConnections(): Promise<number> {
    return sumOf((await scrape(this.#admin)).samples, 'cirque_connections')
  }

  /** When it has one open connection of a client: a browser opens one more, for what may come, and closes it again. */
  async oneConnection(): Promise<void> {
    const late = Date.now() + START_MAX_MS
    let open = await this.openConnections()
    while (open !== 1) {
      if (Date.now() > late) throw new Error(`${open} connections of clients are open`)
      await delay(50)
      open = await this.openConnections()
    }
  }

  #newLines(): string[] {
    if (!existsSync(this.#log)) return []
    const text = readFileSync(this.#log).subarray(this.#readBytes).toString('latin1')
    return text.slice(0, text.lastIndexOf('\n') + 1).split('\n').filter(line => line !== '')
  }

  stop(): Promise<void> { return this.#process.stop() }
}
