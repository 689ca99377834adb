/**
 * Makes the keys of session tickets, or reads them from the file of a fleet, and sees to it that all workers have the same: those of
 * every generation, over an exec, and over the adoption by another supervisor. So a client takes up its session wherever it comes to.
 * There are none until a listener speaks TLS.
 *
 * A key is told to every worker before any encrypts with it (ticket-ring.ts), and it is in the journal before it is told, so that
 * a supervisor that follows a killed one knows it. A journal that cannot be written puts off a change, and nothing else. Keys travel
 * over the control socket of workers, to a process that has proven its token; they are in no argument, no variable and no log.
 * A worker that drains is told and not waited for; one that cannot be told is waited for until it is back or gone.
 */
import { randomBytes } from 'node:crypto'
import { TLS_DEFAULTS, type ResolvedTlsOptions } from '../src/config/tls-options.ts'
import { overridesFor } from '../src/config/worker-settings.ts'
import { ChannelError } from '../src/ipc/channel.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { DescribedTls } from '../src/ipc/server-description.ts'
import type { Fleet } from './fleet.ts'
import type { Generation } from './generation.ts'
import type { ProcessHost } from './process-host.ts'
import { parseTicketKeys } from './ticket-keys-file.ts'
import { TicketRing, type TicketRecord } from './ticket-ring.ts'
import { messageOf } from './worker-orders.ts'
import { Contact, WorkerState, type WorkerLink, type WorkerProcess } from './worker-process.ts'

export type TicketFleet = Pick<Fleet, 'workers' | 'generationOf' | 'generation' | 'options'>

export interface TicketWorld {
  readonly host: Pick<ProcessHost, 'nowMs' | 'after'>
  readonly log: ProcessLog
  /** In ms since 1970. */
  wallMs(): number
  /** A whole small file. @throws */
  readFile(file: string): Buffer
  /** Null: there is none yet, or none any more. */
  fleet(): TicketFleet | null
  /** Writes the journal, now. @returns false when it is not on the disk */
  record(): boolean
}

/** What `status` says. */
export interface TicketStatus {
  /** Where keys come from: '' are made here. */
  readonly file: string
  /** How many decrypt. */
  readonly keys: number
  /** The first bytes of the name of the one that encrypts, which each ticket shows: machines of a fleet can be compared by it. */
  readonly encrypts: string
  /** How long it has. */
  readonly ageMs: number
  /** Why the file was not taken; ''. */
  readonly problem: string
}

/** How often time and workers are looked at, in ms; the file every tenth time. */
const LOOK_MS = 1_000
const FILE_LOOKS = 10
const KEY_BYTES = 48
/** So many keys decrypt and do not encrypt, at most, unless they come from a file. Each is looked through for a ticket. */
const MAX_PAST_KEYS = 24
const SHOWN_NAME_DIGITS = 8

/** What was told over one connection. */
interface Told {
  /** Last version that was sent. */
  told: number
  /** Last version that the worker has said that it has. */
  has: number
  /** Version of a question that is not answered yet; 0: none. */
  asked: number
}

export class TicketKeeper {
  readonly #world: TicketWorld
  readonly #told = new WeakMap<WorkerLink, Told>()
  #ring: TicketRing | null = null
  #problem = ''
  #looks = 0
  #began = false
  #ended = false
  #cancel: () => void = () => {}

  constructor(world: TicketWorld) { this.#world = world }

  /** What an image or a supervisor before us has left. */
  restore(record: TicketRecord | null | undefined): void {
    this.#ring ??= TicketRing.restore(record, this.#world.host.nowMs(), this.#world.wallMs())
  }

  record(): TicketRecord | null { return this.#ring?.record(this.#world.host.nowMs(), this.#world.wallMs()) ?? null }

  /** From now on keys change: nobody takes our place any more who would not know of it. */
  begin(): void {
    if (this.#began || this.#ended) return
    this.#began = true
    this.#lookLater()
  }

  end(): void {
    this.#ended = true
    this.#cancel()
  }

  /** What a worker is told when it says hello; null: it needs none. The welcome goes over `link`. */
  keysFor(worker: WorkerProcess, fleet: TicketFleet, link: WorkerLink): readonly string[] | null {
    if (!speaksTls(fleet.generationOf(worker))) return null
    const ring = this.#ring ?? this.#make(optionsOf(fleet))
    this.#told.set(link, { told: ring.version, has: 0, asked: 0 })
    return ring.told
  }

  status(): TicketStatus | null {
    if (this.#ring === null) return null
    const fleet = this.#world.fleet()
    const { told } = this.#ring
    const encrypts = Buffer.from(told[0]!, 'base64').toString('hex').slice(0, SHOWN_NAME_DIGITS)
    const file = fleet === null ? '' : optionsOf(fleet).ticketKeysFile
    return { file, keys: told.length, encrypts, ageMs: Math.round(this.#ring.ageMs(this.#world.host.nowMs())), problem: this.#problem }
  }

  /** Reads the file now: an operator has asked, or the configuration has changed. */
  reread(): void {
    this.#looks = 0
    if (this.#began) this.#look()
  }

  #make(options: ResolvedTlsOptions): TicketRing {
    const keys = (options.ticketKeysFile === '' ? null : this.#readKeys(options.ticketKeysFile)) ?? [newKey()]
    this.#ring = new TicketRing(keys, this.#world.host.nowMs())
    this.#world.record()
    return this.#ring
  }

  #lookLater(): void {
    this.#cancel = this.#world.host.after(LOOK_MS, () => {
      this.#look()
      this.#lookLater()
    })
  }

  #look(): void {
    const fleet = this.#world.fleet(), ring = this.#ring
    if (fleet === null || ring === null || this.#ended) return
    ring.forget(this.#world.host.nowMs())
    const keys = this.#wanted(ring, fleet)
    if (keys !== null && ring.prepare(keys) && !this.#world.record()) ring.cancel()
    this.reconcile()
  }

  /** @returns null: those that there are */
  #wanted(ring: TicketRing, fleet: TicketFleet): readonly string[] | null {
    const { ticketKeysFile, ticketRotationMs } = optionsOf(fleet)
    if (ticketKeysFile !== '') return this.#looks++ % FILE_LOOKS === 0 ? this.#readKeys(ticketKeysFile) : null
    this.#problem = ''
    const rotationMs = Math.max(ticketRotationMs, ticketLifetimeMs(fleet) / MAX_PAST_KEYS)
    return !ring.preparing && ring.ageMs(this.#world.host.nowMs()) >= rotationMs ? [newKey()] : null
  }

  /** @returns null: they cannot be used, which is said once */
  #readKeys(file: string): readonly string[] | null {
    try {
      const keys = parseTicketKeys(this.#world.readFile(file))
      if (this.#problem !== '') this.#world.log.info('the keys of session tickets can be read again', { file })
      this.#problem = ''
      return keys
    } catch (error) {
      const problem = messageOf(error)
      const kept = this.#ring === null ? 'keys are made here until it is mended' : 'the keys that there are stay'
      const text = `the file with the keys of session tickets cannot be used; ${kept}`
      if (problem !== this.#problem) this.#world.log.error(text, { file, reason: problem })
      this.#problem = problem
      return null
    }
  }

  /** Tells workers what they do not know yet, and lets the keys that come encrypt once all have them. */
  reconcile(): void {
    const fleet = this.#world.fleet(), ring = this.#ring
    if (!this.#began || this.#ended || fleet === null || ring === null) return
    let waits = false
    for (const worker of fleet.workers()) {
      if (!worker.alive || !speaksTls(fleet.generationOf(worker))) continue
      if (worker.link !== null) this.#tell(worker.link, ring, fleet)
      if (isWaitedFor(worker) && !this.#has(worker, ring)) waits = true
    }
    if (!ring.preparing || waits) return
    ring.commit(this.#world.host.nowMs(), ticketLifetimeMs(fleet))
    this.#world.record()
    this.#world.log.info('session tickets are encrypted with another key', { keys: ring.told.length })
    this.reconcile()
  }

  #has({ link }: WorkerProcess, ring: TicketRing): boolean { return link !== null && (this.#told.get(link)?.has ?? 0) >= ring.version }

  #tell(link: WorkerLink, ring: TicketRing, fleet: TicketFleet): void {
    const told = this.#told.get(link) ?? { told: 0, has: 0, asked: 0 }
    this.#told.set(link, told)
    const { version } = ring
    // A welcome is not answered: who has to be sure asks.
    if (told.asked === version || told.has >= version || (told.told >= version && !ring.preparing)) return
    told.told = told.asked = version
    link.ask({ tag: 'ticket-keys', keys: ring.told }, fleet.options.ackTimeoutMs).then(() => {
      told.has = Math.max(told.has, version)
      this.reconcile()
    }, (error: unknown) => {
      const isOfOldBuild = error instanceof ChannelError && error.code === 'unknown'
      // It has no listener of TLS, or keys of its own.
      if (isOfOldBuild) told.has = Number.POSITIVE_INFINITY
      // Over another connection it hears of them in its welcome.
      else if (told.asked === version) told.told = told.asked = 0
    })
  }
}

function optionsOf({ generation }: TicketFleet): ResolvedTlsOptions { return generation.settings.tls ?? TLS_DEFAULTS }
function speaksTls({ description }: Generation): boolean { return description.listeners.some(({ tls }) => tls !== undefined) }
function newKey(): string { return randomBytes(KEY_BYTES).toString('base64') }

/** The longest of all that have given tickets, or give some. */
function ticketLifetimeMs(fleet: TicketFleet): number {
  const generations = new Set([fleet.generation, ...[...fleet.workers()].map(worker => fleet.generationOf(worker))])
  return Math.max(0, ...[...generations].flatMap(lifetimesOf))
}

/** What an operator says of a listener counts over what its application says. */
function lifetimesOf({ description, settings }: Generation): number[] {
  return description.listeners.map(({ name, tls }) => {
    if (tls === undefined) return 0
    const said = (overridesFor(settings.listeners, name)['tls'] as Partial<DescribedTls> | undefined)?.ticketLifetimeMs
    return said ?? tls.ticketLifetimeMs
  })
}

/** It makes handshakes, or may again. One that has never said hello knows no keys, and is told in its welcome. */
function isWaitedFor({ state, contact }: WorkerProcess): boolean {
  return state !== WorkerState.Draining && contact !== Contact.Expected
}
