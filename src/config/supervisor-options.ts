/**
 * Everything that the supervisor and its workers may be told, described, defaulted and checked in this one file.
 * The configuration file, the environment and the command line are mapped to it by load-config.ts; the supervisor only
 * ever sees the resolved shape. The resolved shape is plain JSON, so that it can cross processes.
 */
import os from 'node:os'
import {
  choice, count, countOr, defaultsOf, duration, flag, list, number, options, path, resolveOptions, size, text,
  type OptionTable,
} from '../primitives/option-table.ts'
import { isMetricNames, METRIC_NAMES } from './metric-names.ts'

/** How a process gets rid of what is open. `retire`: a replacement serves; `stop`: no process will. */
export interface DrainOptions {
  /** An idle connection is kept this long for its next request, in ms. 0 closes it at once, spread over closeSpreadMs. @default 30_000 */
  idleDrainMs?: number
  /**
   * When retiring, closes of idle and of upgraded connections are spread over this time behind their own, in ms. 0
   * closes all in one go. @default 5_000
   */
  closeSpreadMs?: number
  /** After this a line in the log says what is still open, in ms. 0 turns the line off. @default 30_000 */
  softDrainMs?: number
  /** After this requests are cut, in ms. 0 cuts at once. @default 300_000 */
  hardDrainMs?: number
  /** WebSockets get Close 1001 after this, in ms. 0 closes them now. @default 300_000 */
  webSocketDrainMs?: number
  /** Other upgraded connections are ended after this, in ms. 0 ends them now. @default 600_000 */
  tunnelDrainMs?: number
  /** Caps every other time when the whole server stops, in ms. 0 cuts at once. @default 300_000 */
  stopTimeoutMs?: number
  /** The same for a stop by SIGINT (Ctrl-C), in ms. 0 cuts at once. @default 3_000 */
  interruptTimeoutMs?: number
  /**
   * On stop: not ready for this long while still accepting, so that load balancers look away first, in ms. SIGINT skips
   * it. 0 skips it. @default 0
   */
  lameDuckMs?: number
  /**
   * After an error that nothing caught a worker stops accepting, is replaced, and finishes what it has for this long, in
   * ms. 0 ends it at once. @default 5_000
   */
  crashDrainMs?: number
  /** Retired workers that one slot may have at a time; past it the oldest is cut. At least 1. @default 3 */
  maxDrainingGenerations?: number
}

export type ResolvedDrainOptions = Readonly<Required<DrainOptions>>

export const DRAIN_OPTIONS = {
  idleDrainMs: duration(30_000, { zero: 'closes it at once' }),
  closeSpreadMs: duration(5_000, { zero: 'closes all in one go' }),
  softDrainMs: duration(30_000, { zero: 'turns the line off' }),
  hardDrainMs: duration(300_000, { zero: 'cuts at once' }),
  webSocketDrainMs: duration(300_000, { zero: 'closes them now' }),
  tunnelDrainMs: duration(600_000, { zero: 'ends them now' }),
  stopTimeoutMs: duration(300_000, { zero: 'cuts at once' }),
  interruptTimeoutMs: duration(3_000, { zero: 'cuts at once' }),
  lameDuckMs: duration(0, { zero: 'skips it' }),
  crashDrainMs: duration(5_000, { zero: 'ends it at once' }),
  maxDrainingGenerations: count(3),
} satisfies OptionTable<DrainOptions>

export const DRAIN_DEFAULTS: ResolvedDrainOptions = defaultsOf<DrainOptions>(DRAIN_OPTIONS)

/**
 * When a worker that died is started again: `backoffMs` x 2^deaths in a row, at most `backoffMsMax`, give or take
 * `backoffJitter`. While no worker accepts or is about to, the next one is started within 200 ms whatever these say.
 */
export interface RestartOptions {
  /** Wait after the first death, in ms. 0 restarts at once, always. @default 100 */
  backoffMs?: number
  /** Longest wait, in ms. At least backoffMs. 0 restarts at once, always. @default 30_000 */
  backoffMsMax?: number
  /** Share of the wait that is random, 0 to 1, so that slots do not restart in step. 0 turns it off. @default 0.2 */
  backoffJitter?: number
  /** A worker that accepted this long has forgotten the deaths before it, in ms. 0 forgets at once. @default 60_000 */
  forgetAfterMs?: number
  /** Deaths before any worker became ready at all, after which a start is given up. At least 1. @default 3 */
  maxStartDeaths?: number
}

export type ResolvedRestartOptions = Readonly<Required<RestartOptions>>

export const RESTART_OPTIONS = {
  backoffMs: duration(100, { zero: 'restarts at once, always' }),
  backoffMsMax: duration(30_000, { zero: 'restarts at once, always', atLeast: 'backoffMs' }),
  backoffJitter: number(0.2, 0, 1, 'turns it off'),
  forgetAfterMs: duration(60_000, { zero: 'forgets at once' }),
  maxStartDeaths: count(3),
} satisfies OptionTable<RestartOptions>

export const RESTART_DEFAULTS: ResolvedRestartOptions = defaultsOf<RestartOptions>(RESTART_OPTIONS)

/** When a new generation may stay, and how long its steps may take. */
export interface UpgradeOptions {
  /** How long the first new worker serves alone before the others follow, in ms. 0 skips it. @default 10_000 */
  soakMs?: number
  /**
   * 5xx answers of its own that new workers may give beyond the share of the old ones, as a share of their requests, 0
   * to 1; those because of an upstream count when old workers were answered by theirs. 1 never objects. @default 0.05
   */
  maxFaultShare?: number
  /** So many such answers there must be before anyone objects. At least 1. @default 3 */
  minFaults?: number
  /**
   * New workers whose event loop is late by more than this, and by four times as much as the old ones', three reports in
   * a row, are taken back, in ms. 0 never objects. @default 200
   */
  maxLoopLagMs?: number
  /**
   * A supervisor that has replaced itself and is not done by then is taken back, in ms. It has longer where the release took long
   * to be described: eight times that, at most 30 s. At least 1. @default 5_000
   */
  bootTimeoutMs?: number
  /** How long a new supervisor waits for the workers of the one before it, in ms. At least 1. @default 2_000 */
  adoptTimeoutMs?: number
}

export type ResolvedUpgradeOptions = Readonly<Required<UpgradeOptions>>

export const UPGRADE_OPTIONS = {
  soakMs: duration(10_000, { zero: 'skips it' }),
  maxFaultShare: number(0.05, 0, 1),
  minFaults: count(3),
  maxLoopLagMs: duration(200, { zero: 'never objects' }),
  bootTimeoutMs: duration(5_000),
  adoptTimeoutMs: duration(2_000),
} satisfies OptionTable<UpgradeOptions>

export const UPGRADE_DEFAULTS: ResolvedUpgradeOptions = defaultsOf<UpgradeOptions>(UPGRADE_OPTIONS)

export interface SupervisorOptions {
  /** Worker processes, 1 to 256. 'auto': as many as the machine can run at once. @default 'auto' */
  workers?: number | 'auto'
  /**
   * Workers more that are kept ready without accepting (spare servers of others), 0 to 256: the first slots have one each,
   * which takes over as soon as the slot's worker is gone, or hangs while no other serves. Each takes the memory of an idle
   * worker. 0 keeps none, and starts one when no worker serves. @default 0
   */
  spareWorkers?: number
  /**
   * Folder of the control sockets and the journal. '': `$RUNTIME_DIRECTORY`, `$XDG_RUNTIME_DIR/cirque/<name>` or the
   * system's temporary folder. @default ''
   */
  stateDir?: string
  /** User that workers run as, by name or number. '': the supervisor's own. @default '' */
  user?: string
  /** Group that workers run as, by name or number. '': the user's own group, or the supervisor's. @default '' */
  group?: string
  /**
   * Where the admin listener answers /livez, /readyz, /startupz and /metrics, and shows the status page: `host:port` or
   * `unix:/path?mode=660`. '' turns it off. @default ''
   */
  adminAddress?: string
  /**
   * Whether workers count what they do, for /metrics, the status page and `cirque top`. Changes with the next generation of workers.
   * @default true
   */
  metrics?: boolean
  /**
   * Other proxies whose names /metrics has besides ours, made from the same counts: traefik, caddy, haproxy, nginx. Changes with a
   * reload. @default []
   */
  metricNames?: readonly string[]
  /** How often a worker reports, in ms. The supervisor looks four times as often. At least 10. @default 500 */
  heartbeatMs?: number
  /**
   * Silence, counted by the supervisor's ticks, after which a sibling accepts for a worker as well, or a spare is started
   * when no worker serves, in ms. At least heartbeatMs. @default 800
   */
  standInAfterSilenceMs?: number
  /** Silence, counted by the supervisor's ticks, after which a worker gets SIGABRT, in ms. At least heartbeatMs. @default 10_000 */
  abortAfterSilenceMs?: number
  /** SIGKILL follows SIGABRT after this, in ms. 0 sends both at once. @default 1_000 */
  killAfterAbortMs?: number
  /** A worker that is not ready by then is killed and counts as dead, in ms. At least 1. @default 15_000 */
  readyTimeoutMs?: number
  /** An application that has not described its listeners by then is refused, in ms. At least 1. @default 15_000 */
  describeTimeoutMs?: number
  /**
   * A worker that reports on time and has not answered an order by then is killed, in ms. One that reports late or not at all
   * is waited for until its silence ends it. At least 1. @default 2_000
   */
  ackTimeoutMs?: number
  /** On stop, how long workers go on accepting what the kernel had queued, in ms. 0 does not look at the queue. @default 1_000 */
  emptyQueueMs?: number
  /**
   * What workers do when their supervisor is gone. 'keep': serve on and wait to be adopted. 'auto': keep under systemd,
   * which starts the next one, and drain-after elsewhere. @default 'auto'
   */
  orphanPolicy?: 'auto' | 'drain-after' | 'keep'
  /**
   * With 'drain-after', how long workers wait for a supervisor before they drain and end, in ms. They look once more
   * then. 0 looks once. @default 10_000
   */
  orphanDrainAfterMs?: number
  /**
   * What a rejected promise that nobody handles does to a worker that serves. 'log': a line and a count. 'end': the same
   * as an error that nothing caught, so the worker is replaced (`drain.crashDrain`). @default 'log'
   */
  unhandledRejections?: 'log' | 'end'
  /** Longest line on a control socket, in bytes; past it the connection is closed. At least 1024. @default 1_048_576 */
  maxControlMessageBytes?: number
  /** Operators connected at once; past it the newest is closed. At least 1. @default 16 */
  maxControlClients?: number
  /**
   * An operator that has asked nothing, or a worker that has not said who it is, is disconnected after this, in ms. At
   * least 1. @default 10_000
   */
  controlTimeoutMs?: number
  /** How processes get rid of what is open. @default DRAIN_DEFAULTS */
  drain?: DrainOptions
  /** When workers that died are started again. @default RESTART_DEFAULTS */
  restart?: RestartOptions
  /** When a new generation may stay. @default UPGRADE_DEFAULTS */
  upgrade?: UpgradeOptions
}

type CompletedOtherwise = 'workers' | 'drain' | 'restart' | 'upgrade'

/** `workers` is a number here. */
export interface ResolvedSupervisorOptions extends Readonly<Required<Omit<SupervisorOptions, CompletedOtherwise>>> {
  readonly workers: number
  readonly drain: ResolvedDrainOptions
  readonly restart: ResolvedRestartOptions
  readonly upgrade: ResolvedUpgradeOptions
}

/** The most workers that may be asked for; every one inherits every slot's sockets. */
export const MAX_WORKERS = 256

/** A heartbeat more often than this would be most of what a process does. */
const MIN_HEARTBEAT_MS = 10

export const SUPERVISOR_OPTIONS = {
  workers: countOr('auto', { max: MAX_WORKERS }),
  spareWorkers: count(0, { max: MAX_WORKERS, zero: 'keeps none, and starts one when no worker serves' }),
  stateDir: path('', 'a folder', ['']),
  user: text('', 'a user, by name or number'),
  group: text('', 'a group, by name or number'),
  adminAddress: text('', 'an address such as 127.0.0.1:9901 or unix:/run/cirque/admin.sock'),
  metrics: flag(true),
  metricNames: list([], METRIC_NAMES.join(', '), isMetricNames),
  heartbeatMs: duration(500, { min: MIN_HEARTBEAT_MS }),
  standInAfterSilenceMs: duration(800, { min: MIN_HEARTBEAT_MS, atLeast: 'heartbeatMs' }),
  abortAfterSilenceMs: duration(10_000, { min: MIN_HEARTBEAT_MS, atLeast: 'heartbeatMs' }),
  killAfterAbortMs: duration(1_000, { zero: 'sends both at once' }),
  readyTimeoutMs: duration(15_000),
  describeTimeoutMs: duration(15_000),
  ackTimeoutMs: duration(2_000),
  emptyQueueMs: duration(1_000, { zero: 'does not look at the queue' }),
  orphanPolicy: choice('auto', ['auto', 'drain-after', 'keep']),
  orphanDrainAfterMs: duration(10_000, { zero: 'looks once' }),
  unhandledRejections: choice('log', ['log', 'end']),
  maxControlMessageBytes: size(1_048_576, { min: 1024 }),
  maxControlClients: count(16),
  controlTimeoutMs: duration(10_000),
  drain: options<DrainOptions>(DRAIN_OPTIONS, DRAIN_DEFAULTS),
  restart: options<RestartOptions>(RESTART_OPTIONS, RESTART_DEFAULTS),
  upgrade: options<UpgradeOptions>(UPGRADE_OPTIONS, UPGRADE_DEFAULTS),
} satisfies OptionTable<SupervisorOptions>

export const SUPERVISOR_DEFAULTS: Readonly<Required<SupervisorOptions>> = defaultsOf<SupervisorOptions>(SUPERVISOR_OPTIONS)

/** Fills in the defaults and checks every value. @throws OptionError with every mistake there is */
export function resolveSupervisorOptions(given: SupervisorOptions = {}, section = 'supervisor'): ResolvedSupervisorOptions {
  const resolved = resolveOptions<SupervisorOptions>(section, SUPERVISOR_OPTIONS, given, SUPERVISOR_DEFAULTS)
  const workers = resolved.workers === 'auto' ? Math.min(os.availableParallelism(), MAX_WORKERS) : resolved.workers
  // The tables within were completed with the rest.
  return { ...resolved, workers } as ResolvedSupervisorOptions
}
