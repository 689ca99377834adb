/**
 * What one image of a supervisor holds open: the listening sockets, its control and admin sockets, and the service
 * manager that may keep copies of the former. Opens, hands on, closes; when that is due is the life's decision
 * (supervisor.ts) or an upgrade's (release-world.ts).
 *
 * Invariant: listening sockets that a service manager keeps are never shut down here, because a restart goes on with
 * their queues.
 * Tests: test/simulation; with a service manager test/integration/service-manager.serial.
 */
import path from 'node:path'
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import { hostAndPort } from '../src/ipc/server-description.ts'
import type { DescribedListener } from '../src/ipc/server-description.ts'
import type { DescriptorLayout } from '../src/ipc/descriptor-layout.ts'
import type { SystemCalls, SystemCallsState } from '../src/ipc/system-calls.ts'
import type { AdminServer, AdminSource } from './admin-server.ts'
import { collectDescriptors, restoreSockets } from './adoption.ts'
import type { HandoffInbox } from './adoption.ts'
import { ControlServer } from './control-server.ts'
import type { ControlHandlers } from './control-server.ts'
import type { Fleet } from './fleet.ts'
import type { Identity } from './identities.ts'
import type { JournalEntry } from './journal.ts'
import { BindError, ListenerTable, remedyOf } from './listener-table.ts'
import { HANDOFF_SOCKET } from './state-folder.ts'
import type { SupervisorWorld } from './supervisor-world.ts'
import { ServiceManager } from './systemd.ts'

/**
 * Without system calls a worker inherits each socket this often: to accept, to resume and to stand in, four times each, since
 * it then accepts on four at once (workers/inherited-listeners.ts).
 */
const COPIES_WITHOUT_SYSTEM_CALLS = 12

/** Descriptors of an image's own sockets; -1: there is none. */
export type OwnSockets = JournalEntry['sockets']

const NO_SOCKETS: OwnSockets = { control: -1, worker: -1, admin: -1 }

export class Holdings {
  table: ListenerTable
  /** Without any that was told to us: every method does nothing. */
  serviceManager: ServiceManager
  readonly #world: SupervisorWorld
  readonly #folder: string
  readonly #log: ProcessLog
  #systemCalls: SystemCallsState = { available: false, reason: 'not loaded yet' }
  #control: ControlServer | null = null
  #admin: AdminServer | null = null
  #adminAddress = ''

  constructor(world: SupervisorWorld, folder: string, slots: number, log: ProcessLog) {
    this.#world = world
    this.#folder = folder
    this.#log = log
    this.table = new ListenerTable(slots, log, world.binder)
    this.serviceManager = ServiceManager.fromEnvironment({}, null, log)
  }

  get calls(): SystemCalls | null { return this.#systemCalls.available ? this.#systemCalls.calls : null }
  get systemCallsText(): string { return this.#systemCalls.available ? 'available' : `not available: ${this.#systemCalls.reason}` }
  /** The state folder is ours. */
  get claimed(): boolean { return this.#control !== null }
  get controlPath(): string { return this.#control?.controlPath ?? '' }
  get adminAddress(): string { return this.#adminAddress }
  get ownSockets(): OwnSockets {
    return { ...this.#control?.descriptors ?? NO_SOCKETS, admin: this.#admin?.descriptor ?? NO_SOCKETS.admin }
  }

  /** Everything that the next image gets. */
  get allDescriptors(): number[] {
    const { control, worker, admin } = this.ownSockets
    return [...this.table.allDescriptors, ...[control, worker, admin].filter(fd => fd !== -1)]
  }

  /** First of all: what may be used, and who left something for us. */
  async open(): Promise<void> {
    this.#systemCalls = await this.#world.loadSystemCalls()
    this.serviceManager = this.#world.serviceManager(this.calls, this.#log)
  }

  /** Listens on the control sockets, which claims the state folder. @param held of the image before. @throws AlreadyRunning */
  async claim(options: ResolvedSupervisorOptions, identity: Identity, held: OwnSockets | null, handlers: ControlHandlers): Promise<void> {
    const control = new ControlServer({
      folder: this.#folder, options, log: this.#log, workerUid: identity.uid, workerGid: identity.gid, calls: this.calls, held, handlers,
    }, this.#world.control)
    await control.listen()
    this.#control = control
  }

  /**
   * A cleaner of the temporary folder may take the sockets away, and with them the way of workers that start or come back.
   * @param prepare makes the folder @returns whether they were gone, and are there again. @throws when they cannot be made
   */
  async keepReachable(prepare: () => void): Promise<boolean> {
    if (this.#control === null || this.#control.reachable) return false
    prepare()
    await this.#control.restore()
    return true
  }

  /** @param heldFd of the image before; -1: it is bound. @throws BindError */
  async listenAdmin(address: string, heldFd: number, source: AdminSource): Promise<void> {
    if (address === '') return
    this.#admin = this.#world.createAdmin(source)
    try {
      this.#adminAddress = await this.#admin.listen(address, this.calls, heldFd)
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException
      throw new BindError(code, `supervisor.adminAddress is ${address}, which cannot be bound: ${remedyOf(error)}`, error)
    }
  }

  /** Sockets that came from the service manager are used where they fit. */
  offerInherited(): void {
    this.table.offer(this.serviceManager.inherited.map(({ fd, address }) => {
      return { fd, bound: address.kind === 'unix' ? `unix:${address.path}` : hostAndPort(address.host, address.port) }
    }))
  }

  /** Those that fitted nowhere. */
  closeUnused(): void {
    for (const { fd, bound } of this.table.takeUnused()) {
      this.#log.warn(`the service manager gave us a socket for ${bound}, where the application does not listen; it is closed`)
      this.#world.binder.close(fd)
    }
  }

  /** The service manager holds copies, so that the queue survives even the end of all of us. */
  keepCopies(): void {
    if (!this.serviceManager.present) return
    for (const { key, sockets } of this.table.listeners) this.serviceManager.store(key, sockets.map(({ fd }) => fd))
  }

  /** What workers of an application that is described like this inherit. */
  layout(described: readonly DescribedListener[]): DescriptorLayout {
    return this.table.layout(described, this.calls === null ? COPIES_WITHOUT_SYSTEM_CALLS : 1)
  }

  /**
   * Fills the table with what the workers of a killed supervisor, and the service manager, still have.
   * @throws BindError when that is not enough.
   */
  async takeBack(fleet: Fleet, entry: JournalEntry): Promise<void> {
    const calls = this.calls!
    const { binder } = this.#world
    const given = await collectDescriptors(fleet, this.#handoff(fleet, calls), binder, this.#log)
    // Copies: a start from nothing will want them, should this fail.
    for (const { fd } of this.serviceManager.inherited) given.add(calls.dup(fd))
    restoreSockets(this.table, fleet, entry, given, calls, this.#log)
    given.close()
    const { description, layout } = fleet.generation
    await this.table.bind(description.listeners, Math.max(entry.slots, layout.slots))
  }

  #handoff({ generation }: Fleet, calls: SystemCalls): HandoffInbox {
    const file = path.join(this.#folder, HANDOFF_SOCKET)
    return { path: file, open: () => this.#world.openInbox(file, generation, calls) }
  }

  /** What came from the service manager is in the table by now. */
  closeInherited(): void { for (const { fd } of this.serviceManager.inherited) this.#world.binder.close(fd) }

  /** Another table, after what could be had of one was not enough. Workers still hold the sockets, so they are not shut down. */
  startOver(slots: number): void {
    this.table.close(null)
    this.table = new ListenerTable(slots, this.#log, this.#world.binder)
  }

  /** The end of every listener, unless the service manager keeps it: later dials are refused at once. */
  closeListeners(): void {
    const kept = this.serviceManager.present
    this.table.close(kept ? null : this.calls, kept)
  }

  closeAdmin(): void { this.#admin?.close() }

  /** Answers are written out before the connections end. */
  async closeControl(): Promise<void> { await this.#control?.close() }
}
