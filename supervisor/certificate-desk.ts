/**
 * What an operator asks with `cirque certs`, and what is said once a day without being asked. Workers read certificates, each for
 * itself (src/certificates/certificate-files.ts); here is what all of them say put together, so that one that serves something else
 * than its siblings shows.
 */
import { expiryText } from '../src/certificates/certificate-files.ts'
import {
  mostUrgent, type CertificatesOfAll, type ServedCertificate, type ServedCertificates,
} from '../src/certificates/served-certificates.ts'
import { ChannelError } from '../src/ipc/channel.ts'
import type { ToWorker } from '../src/ipc/messages.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { Fleet } from './fleet.ts'
import type { ProcessHost } from './process-host.ts'
import { messageOf } from './worker-orders.ts'
import { WorkerState, type WorkerProcess } from './worker-process.ts'

export type CertificateFleet = Pick<Fleet, 'workers' | 'generation' | 'generationOf' | 'options'>

export interface CertificateWorld {
  readonly host: Pick<ProcessHost, 'after'>
  readonly log: ProcessLog
  /** In ms since 1970. */
  wallMs(): number
  /** Null: there is none yet, or none any more. */
  fleet(): CertificateFleet | null
}

/** A worker that reads thousands of files again takes seconds, in ms. */
const RELOAD_MAX_MS = 30_000
/** After a start: what a first look of workers finds is known by then, in ms. */
const FIRST_MS = 60_000
const DAY_MS = 86_400_000
/** Of one day. */
const MAX_LINES = 20
/** What is around the list in the answer to an operator, in bytes. */
const FRAME_BYTES = 16_384

export class CertificateDesk {
  readonly #world: CertificateWorld
  #cancel: () => void = () => {}
  #began = false

  constructor(world: CertificateWorld) { this.#world = world }

  /** From now on the log says once a day what comes to its end. */
  begin(): void {
    if (this.#began) return
    this.#began = true
    this.#warnLater(FIRST_MS)
  }

  end(): void {
    this.#began = true
    this.#cancel()
  }

  /** @param reload workers look at their files first. Never rejects */
  async list(reload: boolean): Promise<CertificatesOfAll> {
    const fleet = this.#world.fleet()
    if (fleet === null || !speaksTls(fleet)) return { certificates: [], more: 0, workers: [], silent: [], tls: false }
    const answers = await Promise.all(asked(fleet).map(worker => this.#ask(worker, fleet, reload)))
    return putTogether(answers, fleet.options.maxControlMessageBytes - FRAME_BYTES)
  }

  async #ask(worker: WorkerProcess, fleet: CertificateFleet, reload: boolean): Promise<Answered> {
    const { id, link } = worker, order: ToWorker = { tag: 'certificates', reload }
    try {
      const { certificates, more } = await link!.ask(order, reload ? RELOAD_MAX_MS : fleet.options.ackTimeoutMs) as ServedCertificates
      return { worker: id, certificates, more, reason: '' }
    } catch (error) {
      const isOld = error instanceof ChannelError && error.code === 'unknown'
      return { worker: id, certificates: [], more: 0, reason: isOld ? 'it is of a build that cannot tell' : messageOf(error) }
    }
  }

  #warnLater(ms: number): void {
    this.#cancel = this.#world.host.after(ms, () => {
      void this.#warn()
      this.#warnLater(DAY_MS)
    })
  }

  async #warn(): Promise<void> {
    const { certificates } = await this.list(false), now = this.#world.wallMs()
    let lines = 0
    for (const { listener, file, names: [name = ''], notAfter } of certificates) {
      const text = expiryText(notAfter, now)
      if (text === '' || ++lines > MAX_LINES) continue
      this.#world.log.warn(`a certificate ${text}`, { listener, certificate: file === '' ? name : file })
    }
    if (lines > MAX_LINES) this.#world.log.warn(`and ${lines - MAX_LINES} more certificates come to their end; \`cirque certs\` lists them`)
  }
}

interface Answered extends ServedCertificates {
  readonly worker: string
  /** Why it has not answered; ''. */
  readonly reason: string
}

function speaksTls({ generation: { description } }: CertificateFleet): boolean {
  return description.listeners.some(({ tls }) => tls !== undefined)
}

/** Those that serve; of others the certificates are nobody's. */
function asked(fleet: CertificateFleet): WorkerProcess[] {
  const able = [...fleet.workers()].filter(({ link, state, alive }) => alive && link !== null && state !== WorkerState.Starting)
  return able.filter(({ state }) => state !== WorkerState.Draining)
}

/** What is the same but for the moment is one row. */
function putTogether(answers: readonly Answered[], maxBytes: number): CertificatesOfAll {
  const rows = new Map<string, { readonly certificate: ServedCertificate; readonly workers: string[] }>()
  for (const { worker, certificates } of answers) {
    for (const certificate of certificates) {
      const { listener, file, fingerprint, outcome, reason, names: [name = ''] } = certificate
      const key = JSON.stringify([listener, file, name, fingerprint, outcome === 'swapped' ? 'first' : outcome, reason])
      const known = rows.get(key)
      if (known === undefined) rows.set(key, { certificate, workers: [worker] })
      // One that was started since has read at its start what others have swapped in.
      else rows.set(key, { certificate: later(known.certificate, certificate), workers: [...known.workers, worker] })
    }
  }
  const all = [...rows.values()].toSorted((one, other) => mostUrgent(one.certificate, other.certificate))
  const certificates: CertificatesOfAll['certificates'][number][] = []
  let bytes = 0
  for (const { certificate, workers } of all) {
    const row = { ...certificate, workers }
    bytes += Buffer.byteLength(JSON.stringify(row)) + 1
    if (bytes > maxBytes) break
    certificates.push(row)
  }
  return {
    certificates, tls: true, more: all.length - certificates.length + Math.max(0, ...answers.map(({ more }) => more)),
    workers: answers.filter(({ reason }) => reason === '').map(({ worker }) => worker),
    silent: answers.filter(({ reason }) => reason !== '').map(({ worker, reason }) => ({ worker, reason })),
  }
}

/** The one that says when it was swapped. */
function later(one: ServedCertificate, other: ServedCertificate): ServedCertificate {
  if (one.outcome !== other.outcome) return one.outcome === 'swapped' ? one : other
  return one.since >= other.since ? one : other
}
