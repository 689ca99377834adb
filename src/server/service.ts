/**
 * A service is a named application bound to listeners, or a background task. Services start in the order of their
 * dependencies; the server (server.ts) owns that order.
 */
import type net from 'node:net'
import type { OpenCounts } from '../ipc/open-counts.ts'
import type { DescribedAddress } from '../ipc/server-description.ts'
import type { ListenerOptions } from '../listener/listener-options.ts'

export interface ListenerSpec {
  /** Unique in the server: `<service>/<address as written>`; `:port` gives two listeners. */
  readonly name: string
  readonly address: DescribedAddress
  readonly options: ListenerOptions
}

/** An accepting socket of a listening service. The server of `node:net` that it owns is listened on by whoever holds the descriptor. */
export interface RunningListener {
  readonly spec: ListenerSpec
  /** Creates a fresh `net.Server` whose connections go to the service. Each is listened on once; several may accept at the same time. */
  createAcceptor(): net.Server
}

/** What a service has open, and what it has done so far. */
export type ServiceStats = OpenCounts

/** `retire`: a replacement serves new connections, idle ones wait for their next request or idleDrainMs. `stop`: the same for a moment and until nothing is in flight, then idle ones are closed. */
export interface DrainRequest {
  readonly mode: 'retire' | 'stop'
  /** Requests still in flight after this are cut; on stop everything is. ms. */
  readonly hardDrainMs: number
  readonly idleDrainMs: number
  /** On retire, closes of what is idle or upgraded are spread over this time behind their own. */
  readonly closeSpreadMs: number
  /** WebSockets are closed after this, with Close 1001. */
  readonly webSocketDrainMs: number
  /** Other upgraded connections are closed after this. */
  readonly tunnelDrainMs: number
}

export interface ListeningService {
  readonly kind: 'listening'
  readonly name: string
  readonly listeners: readonly ListenerSpec[]
  /** Builds what is built once per service; called before any listener accepts. */
  start(): Promise<void> | void
  bind(spec: ListenerSpec): RunningListener
  /**
   * Serves a connection of this process to itself, which no listener accepted and nobody counts; from a `net.Server` with
   * `pauseOnConnect`. Left out: there is nothing that a request could test.
   */
  acceptSelfTest?(socket: net.Socket): void
  /** From now on answers say `Connection: close`; resolves when nothing is open any more (or all of it was cut). */
  drain(request: DrainRequest): Promise<{ cut: number }>
  stats(): ServiceStats
  /** Cuts everything that is left. */
  close(): void
}

export interface BackgroundService {
  readonly kind: 'background'
  readonly name: string
  /** Resolves when the service is ready for its dependents; what it goes on doing afterwards ends with `signal`. */
  start(signal: AbortSignal): Promise<void> | void
}

export type Service = ListeningService | BackgroundService
