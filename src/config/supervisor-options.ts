/**
 * Everything that the supervisor and its workers may be told, described, defaulted and checked in this one file.
 * The configuration file, the environment and the command line are mapped to it by load-config.ts; the supervisor only
 * ever sees the resolved shape. The resolved shape is plain JSON, so that it can cross processes.
 */
import os from 'node:os'

/** How a process gets rid of what is open. `retire`: a replacement serves; `stop`: nobody will. */
export interface DrainOptions {
  /** An idle connection is kept this long for its next request, in ms; 0 closes it at once (spread over closeSpreadMs). @default 30_000 */
  idleDrainMs?: number
  /**
   * When retiring, closes of idle and of upgraded connections are spread over this time behind their own, in ms; 0
   * closes all in one go.
   * @default 5_000
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
   * it. 0 skips it.
   * @default 0
   */
  lameDuckMs?: number
  /** Retired workers that one slot may have at a time; past it the oldest is cut. At least 1. @default 3 */
  maxDrainingGenerations?: number
}

export type ResolvedDrainOptions = Readonly<Required<DrainOptions>>

export const DRAIN_DEFAULTS: ResolvedDrainOptions = {
  idleDrainMs: 30_000, closeSpreadMs: 5_000, softDrainMs: 30_000, hardDrainMs: 300_000, webSocketDrainMs: 300_000,
  tunnelDrainMs: 600_000, stopTimeoutMs: 300_000, interruptTimeoutMs: 3_000, lameDuckMs: 0, maxDrainingGenerations: 3,
}

/** When a worker that died is started again: `backoffMs` x 2^deaths in a row, at most `backoffMsMax`, give or take `backoffJitter`. */
export interface RestartOptions {
  /** Wait after the first death, in ms. 0 restarts at once, always. @default 100 */
  backoffMs?: number
  /** Longest wait, in ms. At least backoffMs. @default 30_000 */
  backoffMsMax?: number
  /** Share of the wait that is random, 0 to 1, so that slots do not restart in step. 0 turns it off. @default 0.2 */
  backoffJitter?: number
  /** A worker that accepted this long has forgotten the deaths before it, in ms. 0 forgets at once. @default 60_000 */
  forgetAfterMs?: number
  /** Deaths before any worker became ready at all, after which a start is given up. At least 1. @default 3 */
  maxStartDeaths?: number
}

export type ResolvedRestartOptions = Readonly<Required<RestartOptions>>

export const RESTART_DEFAULTS: ResolvedRestartOptions = {
  backoffMs: 100, backoffMsMax: 30_000, backoffJitter: 0.2, forgetAfterMs: 60_000, maxStartDeaths: 3,
}

/** When a new generation may stay, and how long its steps may take. */
export interface UpgradeOptions {
  /** How long the first new worker serves alone before the others follow, in ms. 0 skips it. @default 10_000 */
  soakMs?: number
  /**
   * 5xx answers of its own that new workers may give beyond the share of the old ones, as a share of their requests, 0
   * to 1. 1 never objects.
   * @default 0.05
   */
  maxFaultShare?: number
  /** So many such answers there must be before anyone objects. At least 1. @default 3 */
  minFaults?: number
  /**
   * New workers whose event loop is late by more than this, and by four times as much as the old ones', three reports
   * in a row, are taken back, in ms. 0 never objects.
   * @default 200
   */
  maxLoopLagMs?: number
  /** A supervisor that has replaced itself and is not done by then is taken back, in ms. At least 1. @default 5_000 */
  bootTimeoutMs?: number
  /** How long a new supervisor waits for the workers of the one before it, in ms. At least 1. @default 2_000 */
  adoptTimeoutMs?: number
}

export type ResolvedUpgradeOptions = Readonly<Required<UpgradeOptions>>

export const UPGRADE_DEFAULTS: ResolvedUpgradeOptions = {
  soakMs: 10_000, maxFaultShare: 0.05, minFaults: 3, maxLoopLagMs: 200, bootTimeoutMs: 5_000, adoptTimeoutMs: 2_000,
}

export interface SupervisorOptions {
  /** Worker processes, 1 to 256. 'auto': as many as the machine can run at once. @default 'auto' */
  workers?: number | 'auto'
  /**
   * Folder of the control sockets and the journal. '': $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/cirque/<name> or the
   * system's temporary folder.
   * @default ''
   */
  stateDir?: string
  /** User that workers run as, by name or number. '': the supervisor's own. @default '' */
  user?: string
  /** Group that workers run as, by name or number. '': the user's own group, or the supervisor's. @default '' */
  group?: string
  /** Where the admin listener answers /livez, /readyz and /startupz: `host:port` or `unix:/path?mode=660`. '' turns it off. @default '' */
  adminAddress?: string
  /** How often a worker reports, and the supervisor's own tick, in ms. At least 10. @default 1_000 */
  heartbeatMs?: number
  /** Silence after which a sibling accepts for a worker as well, in ms of the supervisor's ticks. At least heartbeatMs. @default 3_000 */
  adoptAfterSilenceMs?: number
  /** Silence after which a worker gets SIGABRT, in ms of the supervisor's ticks. At least heartbeatMs. @default 10_000 */
  abortAfterSilenceMs?: number
  /** SIGKILL follows SIGABRT after this, in ms. 0 sends both at once. @default 1_000 */
  killAfterAbortMs?: number
  /** A worker that is not ready by then is killed and counts as dead, in ms. At least 1. @default 15_000 */
  readyTimeoutMs?: number
  /** An application that has not described its listeners by then is refused, in ms. At least 1. @default 15_000 */
  describeTimeoutMs?: number
  /** A worker that has not answered an order by then is killed, in ms. At least 1. @default 2_000 */
  ackTimeoutMs?: number
  /** On stop, how long workers go on accepting what the kernel had queued, in ms. 0 does not look at the queue. @default 1_000 */
  emptyQueueMs?: number
  /**
   * What workers do when their supervisor is gone. 'keep': serve on and wait to be adopted. 'auto': keep under systemd,
   * which starts the next one, and drain-after elsewhere.
   * @default 'auto'
   */
  orphanPolicy?: 'auto' | 'drain-after' | 'keep'
  /**
   * With 'drain-after', how long workers wait for a supervisor before they drain and end, in ms. They look once more
   * then. 0: one look.
   * @default 10_000
   */
  orphanDrainAfterMs?: number
  /** Longest line on a control socket, in bytes; past it the connection is closed. At least 1024. @default 1_048_576 */
  maxControlMessageBytes?: number
  /** Operators connected at once; past it the newest is closed. At least 1. @default 16 */
  maxControlClients?: number
  /**
   * An operator that has asked nothing, or a worker that has not said who it is, is disconnected after this, in ms. At
   * least 1.
   * @default 10_000
   */
  controlTimeoutMs?: number
  /** How processes get rid of what is open. @default DRAIN_DEFAULTS */
  drain?: DrainOptions
  /** When workers that died are started again. @default RESTART_DEFAULTS */
  restart?: RestartOptions
  /** When a new generation may stay. @default UPGRADE_DEFAULTS */
  upgrade?: UpgradeOptions
}

/** The sections that have options of their own, complete. */
type ResolvedSections = Readonly<{
  drain: ResolvedDrainOptions
  restart: ResolvedRestartOptions
  upgrade: ResolvedUpgradeOptions
}>

type PlainOptions = Readonly<Required<Omit<SupervisorOptions, 'workers' | keyof ResolvedSections>>>

/** `workers` is a number here. */
export interface ResolvedSupervisorOptions extends PlainOptions, ResolvedSections {
  readonly workers: number
}

export const SUPERVISOR_DEFAULTS: Readonly<Required<SupervisorOptions>> & ResolvedSections = {
  workers: 'auto', stateDir: '', user: '', group: '', adminAddress: '',
  heartbeatMs: 1_000, adoptAfterSilenceMs: 3_000, abortAfterSilenceMs: 10_000, killAfterAbortMs: 1_000,
  readyTimeoutMs: 15_000, describeTimeoutMs: 15_000, ackTimeoutMs: 2_000, emptyQueueMs: 1_000,
  orphanPolicy: 'auto', orphanDrainAfterMs: 10_000,
  maxControlMessageBytes: 1_048_576, maxControlClients: 16, controlTimeoutMs: 10_000,
  drain: DRAIN_DEFAULTS, restart: RESTART_DEFAULTS, upgrade: UPGRADE_DEFAULTS,
}

/** The most workers that anyone may ask for; every one inherits every slot's sockets. */
export const MAX_WORKERS = 256

/** An option that cannot be used: where it is, what it is, what would do. */
export class OptionError extends Error {
  constructor(path: string, value: unknown, remedy: string) {
    super(`${path} is ${JSON.stringify(value) ?? String(value)}; ${remedy}`)
    this.name = 'OptionError'
  }
}

const AT_LEAST_ONE = ['readyTimeoutMs', 'describeTimeoutMs', 'ackTimeoutMs', 'controlTimeoutMs', 'maxControlClients'] as const

/** Fills in the defaults and checks every value. @throws OptionError */
export function resolveSupervisorOptions(options: SupervisorOptions = {}, section = 'supervisor'): ResolvedSupervisorOptions {
  const given = withoutUndefined(options)
  const merged = {
    ...SUPERVISOR_DEFAULTS, ...given,
    drain: { ...DRAIN_DEFAULTS, ...withoutUndefined(options.drain ?? {}) },
    restart: { ...RESTART_DEFAULTS, ...withoutUndefined(options.restart ?? {}) },
    upgrade: { ...UPGRADE_DEFAULTS, ...withoutUndefined(options.upgrade ?? {}) },
  }
  const workers = merged.workers === 'auto' ? Math.min(os.availableParallelism(), MAX_WORKERS) : merged.workers
  integer(`${section}.workers`, workers, 1, MAX_WORKERS)
  for (const key of ['stateDir', 'user', 'group', 'adminAddress'] as const) {
    if (typeof merged[key] !== 'string') throw new OptionError(`${section}.${key}`, merged[key], 'use a string')
  }
  integer(`${section}.heartbeatMs`, merged.heartbeatMs, 10)
  for (const key of ['adoptAfterSilenceMs', 'abortAfterSilenceMs'] as const) integer(`${section}.${key}`, merged[key], merged.heartbeatMs)
  for (const key of AT_LEAST_ONE) integer(`${section}.${key}`, merged[key], 1)
  for (const key of ['killAfterAbortMs', 'emptyQueueMs', 'orphanDrainAfterMs'] as const) integer(`${section}.${key}`, merged[key], 0)
  integer(`${section}.maxControlMessageBytes`, merged.maxControlMessageBytes, 1024)
  if (!['auto', 'drain-after', 'keep'].includes(merged.orphanPolicy)) {
    throw new OptionError(`${section}.orphanPolicy`, merged.orphanPolicy, "use 'auto', 'keep' or 'drain-after'")
  }
  for (const key of Object.keys(DRAIN_DEFAULTS) as (keyof DrainOptions)[]) {
    integer(`${section}.drain.${key}`, merged.drain[key], key === 'maxDrainingGenerations' ? 1 : 0)
  }
  integer(`${section}.restart.backoffMs`, merged.restart.backoffMs, 0)
  integer(`${section}.restart.backoffMsMax`, merged.restart.backoffMsMax, merged.restart.backoffMs)
  integer(`${section}.restart.forgetAfterMs`, merged.restart.forgetAfterMs, 0)
  integer(`${section}.restart.maxStartDeaths`, merged.restart.maxStartDeaths, 1)
  for (const key of ['soakMs', 'maxLoopLagMs'] as const) integer(`${section}.upgrade.${key}`, merged.upgrade[key], 0)
  for (const key of ['minFaults', 'bootTimeoutMs', 'adoptTimeoutMs'] as const) integer(`${section}.upgrade.${key}`, merged.upgrade[key], 1)
  share(`${section}.upgrade.maxFaultShare`, merged.upgrade.maxFaultShare)
  share(`${section}.restart.backoffJitter`, merged.restart.backoffJitter)
  return { ...merged, workers }
}

/** The longest wait that timers of Node can express. */
const MAX_MS = 2_147_483_647

function integer(path: string, value: unknown, min: number, max = MAX_MS): void {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return
  throw new OptionError(path, value, `use a whole number from ${min} to ${max}`)
}

function share(path: string, value: unknown): void {
  if (typeof value === 'number' && value >= 0 && value <= 1) return
  throw new OptionError(path, value, 'use a number from 0 to 1')
}

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> }

function withoutUndefined<T extends object>(values: T): Given<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Given<T>
}
