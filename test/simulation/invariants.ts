/**
 * What must hold in a simulated world: always, at certain moments, and when everything has come to rest. Failures begin with
 * the number of their rule; those that need the world's own knowledge are checked in world.ts.
 *
 *   (1) a dial is refused, or a queue lost, only when no process could have kept it; no order leaves a socket without acceptor
 *   (2) `current` leads to what is committed, and moves only when the journal says that it will
 *   (4) no slot drains more workers than it may
 *   (5) every operator is answered, once, and every operation has one outcome
 *   (6) every socket is held by those that the tables name, and by no others
 *   (7) without disturbance everything comes to rest, and a good release goes through
 *   (8) every rejection is handled
 *   (9) an orphan drains only when its policy, its time, and one more dial after that say so
 *   (11) while no worker serves or comes up, the next one is started within 250 ms, whatever happened before
 *   (12) a worker that does what it should is not killed while clients have connections to it, however late it is
 *   (13) what workers have counted is in the totals once, however they and their supervisors ended
 *   (14) the death of a worker, and an operation that was taken back, is told as an event once at most
 *   (15) a key of session tickets encrypts only when every worker that makes handshakes can decrypt with it
 *   (16) it decrypts for as long as its tickets live, whatever happens to supervisors
 *   (10) a start that has not claimed the folder touches nothing; a worker of the journal is adopted before it is refused
 */
import type { ToWorker } from '../../src/ipc/messages.ts'
import type { Plan } from '../../supervisor/upgrade.ts'
import { Intent, WorkerState } from '../../supervisor/worker-process.ts'
import type { SimSocket } from './kernel.ts'
import type { Fleet } from '../../supervisor/fleet.ts'
import { readEntry } from '../../supervisor/journal.ts'
import { SupervisorState } from '../../supervisor/supervisor-state.ts'
import type { SimSupervisor } from './sim-supervisor.ts'
import type { Behaviour, SimWorker } from './sim-worker.ts'
import type { World } from './world.ts'

/** A release that shows one of these to its self-test, or never gets that far, is never committed. */
const NEVER_COMMITTED: readonly Behaviour[] = ['dies at start', 'hangs', 'fails self-test', 'exits after ready']

/** One that is cut ends its tunnels politely, which takes so long, in ms. */
const CUT_MS = 11_001

export const TICKET_LIFETIME_MS = 3_000

/** No longer than this is there no worker that serves or comes up, in ms. */
const DARK_MS = 250

/** Since when an image has no worker that serves or comes up. */
export interface Darkness {
  readonly image: SimSupervisor
  readonly cancel: () => void
}

function watchDarkness(world: World): void {
  const { image, darkness } = world
  const dark = image !== null && isDark(image)
  if (darkness !== null && dark && darkness.image === image) return
  darkness?.cancel()
  if (!dark) { world.darkness = null; return }
  world.count('dark')
  const cancel = world.after(DARK_MS, () => world.violation(`(11) for ${DARK_MS} ms no worker serves or comes up`))
  world.darkness = { image, cancel }
}

function isDark(image: SimSupervisor): boolean {
  const { fleet, state, upgrades } = image
  // Nothing is forked just before an exec.
  if (fleet === null || state !== SupervisorState.Running || image.stopping || upgrades?.step === 'supervisor') return false
  return !fleet.slots.some(({ current, incoming, previous, spare }) => [current, incoming, previous, spare].some(worker => {
    if (worker === null || !worker.alive || worker.fatalSignal !== null || worker.state === WorkerState.Draining) return false
    // The operation under way asks the one before to accept again, and kills it when it has not answered within ackTimeoutMs.
    return worker.state === WorkerState.Starting || worker === previous || !fleet.isSilent(worker)
  }))
}

/** After every event. */
export function checkAlways(world: World): void {
  watchDarkness(world)
  const { image } = world
  const fleet = image?.fleet ?? null
  if (image === null || fleet === null || image.state < SupervisorState.Starting || world.failure !== '') return
  const nowMs = image.nowMs()
  const max = fleet.options.drain.maxDrainingGenerations
  for (const slot of fleet.slots) {
    let uncut = 0
    for (const { state, fatalSignal, drainEndsAtMs } of slot.draining) {
      const beingCut = drainEndsAtMs !== null && drainEndsAtMs - nowMs <= CUT_MS
      if (state === WorkerState.Draining && fatalSignal === null && !beingCut) uncut++
    }
    if (uncut > max + 1) world.violation(`(4) ${uncut} workers drain in slot ${slot.index}, ${max} may`)
  }
  const running = image.state === SupervisorState.Running
  if (world.gap && running && fleet.slots.every(slot => slot.surplus || serves(world, slot.current?.id))) world.gap = false
  const known = new Set<string>()
  for (const worker of fleet.workers()) known.add(worker.id)
  for (const worker of world.workers) {
    if (!worker.alive || known.has(worker.id) || world.refused.has(worker.id) || worker.phase === 'draining') continue
    const ours = running && !image.stopping && world.families.get(worker)!.by === image
    if (ours) world.violation(`worker ${worker.id} lives, but is in no slot`)
  }
  const step = image.upgrades?.step ?? ''
  const committed = fleet.generation.release.folder
  if (step === 'committing' || step === 'committed' || world.current === committed) return
  world.violation(`(2) current is ${world.current}, but ${committed} is committed and the step is '${step}'`)
}

function serves(world: World, id: string | undefined): boolean {
  return [...world.workers].some(worker => worker.id === id && worker.alive && worker.phase === 'accepting')
}

/** At the moment when `current` moves. */
export function checkFlip(world: World, image: SimSupervisor, plan: Plan): void {
  const written = world.journal === null ? '' : readEntry(JSON.parse(world.journal))?.upgrades?.running?.step ?? ''
  if (written !== 'committing') world.violation(`(2) current moves in step '${image.upgrades?.step ?? ''}', the journal says '${written}'`)
  const behaviour = world.calm ? 'good' : world.behaviourOf(plan.to)
  const fresh = [...world.workers, ...world.ghosts].filter(worker => worker.generation === plan.generation.number)
  if (NEVER_COMMITTED.includes(behaviour) && fresh.some(worker => world.workers.has(worker) && worker.behaviour === behaviour)) {
    world.violation(`a release that ${behaviour} is committed`)
  }
  for (let slot = 0; slot < plan.generation.workers; slot++) {
    if (fresh.some(worker => worker.slot === slot && servesAsFarAsKnown(world, image, worker))) continue
    world.violation(`generation ${plan.generation.number} is committed without a worker that accepts in slot ${slot}`)
  }
}

function servesAsFarAsKnown(world: World, image: SimSupervisor, worker: SimWorker): boolean {
  if (!worker.alive) return !world.families.get(worker)!.told.has(image)
  if (worker.phase !== 'draining') return worker.phase === 'accepting'
  // An uncaught error ended it a moment ago: what it says of that is on its way.
  const known = [...image.fleet!.workers()].find(({ id }) => id === worker.id)
  return known?.state === WorkerState.Accepting
}

/** A worker that is told to stop accepting leaves no socket alone, as far as the supervisor can know. */
export function checkOrder(world: World, image: SimSupervisor, id: string, order: ToWorker): void {
  if (order.tag !== 'stop-accept' && order.tag !== 'drain' && order.tag !== 'close-listeners' && order.tag !== 'step-back') return
  const { fleet } = image
  if (image.stopping || fleet === null || world.gap) return
  const worker = [...world.workers].find(one => one.id === id && one.alive)
  if (worker === undefined || worker.phase === 'draining') return
  const known = [...fleet.workers()].find(one => one.id === id)
  if (known !== undefined && fleet.isSilent(known)) return
  // Its queues are looked at when it closes them; new dials go to the sockets beside.
  if (known?.intent === Intent.Dissolve) return
  const wanted = new Set(fleet.generation.description.listeners.map(listener => listener.canonical))
  const plan = image.upgrades?.record().running?.plan ?? null
  const trial = plan === null ? null : new Set(plan.generation.description.listeners.map(listener => listener.canonical))
  for (const [slot, acceptors] of worker.acceptors) {
    if (order.tag === 'step-back' && slot !== order.slot) continue
    for (const [index, socket] of acceptors) {
      if (order.tag === 'stop-accept' && order.except?.includes(worker.layout.listeners[index]!.name) === true) continue
      // A stand-in that accepted on more than the worker that is back does: only until the listener goes, or the worker.
      if (order.tag === 'step-back' && trial !== null && !trial.has(socket.address)) continue
      // It stops there anyway: that order was looked at when it was given.
      if (world.families.get(worker)!.steppingBack.get(slot) === image) continue
      // No sibling wanted to stand in.
      if (fleet.slots[slot]?.standIn.strays === true) continue
      if (!wanted.has(socket.address) || socket.shut || othersAccept(world, image, worker, socket)) continue
      world.violation(`(1) worker ${id} is told to '${order.tag}', but nobody else accepts for slot ${slot} at ${socket.address}`)
    }
  }
}

/** A worker was told keys of session tickets. @param before null: none */
export function checkTicketKeys(world: World, worker: SimWorker, before: readonly string[] | null): void {
  const { encryptedAt, nowMs } = world
  const keys = worker.ticketKeys!
  const newest = keys[0]!
  if (before !== null && before[0] !== newest) world.count('ticket keys changed')
  // Of a supervisor that is gone.
  if (worker.lineage !== world.lineage) return
  if (before !== null) encryptedAt.set(before[0]!, nowMs)
  for (const other of world.workers) {
    if (other === worker || !makesHandshakes(world, other) || other.ticketKeys === null) continue
    encryptedAt.set(other.ticketKeys[0]!, nowMs)
    if (other.ticketKeys.includes(newest)) continue
    world.violation(`(15) worker ${worker.id} encrypts tickets with a key that worker ${other.id} does not have`)
  }
  // It may hear late what was said before it was to drain.
  if (!makesHandshakes(world, worker)) return
  for (const [key, atMs] of encryptedAt) {
    if (nowMs - atMs >= TICKET_LIFETIME_MS || keys.includes(key)) continue
    world.violation(`(16) worker ${worker.id} is told keys without one that has encrypted ${nowMs - atMs} ms ago`)
  }
}

/** As far as the supervisor knows, too: one that it has told to drain is not waited for. */
function makesHandshakes({ image, refused, lineage }: World, worker: SimWorker): boolean {
  if (!worker.alive || worker.phase === 'draining' || worker.lineage !== lineage || refused.has(worker.id)) return false
  const known = [...image?.fleet?.workers() ?? []].find(({ id }) => id === worker.id)
  return known === undefined || known.state !== WorkerState.Draining
}

/** A supervisor sends a signal that ends a worker. */
export function checkKill(world: World, image: SimSupervisor, worker: SimWorker, signal: NodeJS.Signals): void {
  const { fleet } = image
  const known = [...fleet?.workers() ?? []].find(({ id }) => id === worker.id)
  if (fleet === null || known === undefined || fleet.stopping || worker.connections.size === 0) return
  // It has ignored orders, or takes longer for each than it may.
  if (worker.behaviour !== 'good' || worker.threw) return
  const hangs = known.failure?.message.startsWith('silent for') === true
  const outlivedItsDrain = known.drainEndsAtMs !== null && image.nowMs() >= known.drainEndsAtMs
  if (hangs || outlivedItsDrain) return
  world.violation(`(12) worker ${worker.id} gets ${signal}: ${known.failure?.message ?? 'no reason is known'}`)
}

function othersAccept(world: World, image: SimSupervisor, worker: SimWorker, socket: SimSocket): boolean {
  for (const other of [...world.workers, ...world.ghosts]) {
    if (other === worker) continue
    const { lastAccepted, told } = world.families.get(other)!
    // It has met an error, and says so: that is still on its way.
    const failing = other.threw && [...image.fleet!.workers()].some(({ id, state }) => id === other.id && state === WorkerState.Accepting)
    if (failing) return true
    if (other.alive ? socket.acceptors.has(other) : lastAccepted.has(socket) && !told.has(image)) return true
  }
  return false
}

/** @returns '' when the world is as it should be after a while without disturbance, else what is not. */
export function restlessness(world: World): string {
  const { image, kernel } = world
  const living = [...world.workers].filter(worker => worker.alive)
  if (world.stopped) {
    if (living.length > 0) return `stopped, but ${living.map(worker => worker.id).join(', ')} live`
    if (kernel.sockets.size > 0) return `stopped, but ${kernel.sockets.size} sockets are there`
    return ''
  }
  if (image === null) return 'there is no supervisor'
  const { fleet, upgrades, table } = image
  if (fleet === null || upgrades === null || image.state !== SupervisorState.Running) return `the supervisor is in state ${image.state}`
  const { running, waiting } = upgrades.record()
  if (running !== null || waiting !== null || fleet.operationName !== '') {
    return `an operation runs: ${running?.id ?? fleet.operationName} ${running?.step ?? ''}`
  }
  if (world.operators.asking.size > 0) return `nobody answered: ${[...world.operators.asking].join(', ')}`
  const { generation } = fleet
  for (const slot of fleet.slots) {
    if (slot.draining.size > 0) return `${[...slot.draining].map(worker => worker.id).join(', ')} drain`
    const tooMany = slot.incoming ?? slot.previous
    if (tooMany !== null) return `slot ${slot.index} has a worker too many: ${tooMany.id}`
    const keepsSpare = slot.index < Math.min(fleet.options.spareWorkers, generation.workers)
    if (keepsSpare !== (slot.spare !== null)) return `slot ${slot.index} has ${slot.spare?.id ?? 'no spare'}`
    if (slot.spare !== null && slot.spare.state !== WorkerState.Ready) return `the spare ${slot.spare.id} is not ready`
    if (slot.held) return `slot ${slot.index} is being replaced`
    const wanted = slot.index < generation.workers
    if (slot.surplus === wanted) return `slot ${slot.index} is ${wanted ? '' : 'not '}surplus`
    if (!wanted && slot.current !== null) return `slot ${slot.index} is surplus, but has ${slot.current.id}`
    if (!wanted) continue
    const { current } = slot
    const accepts = current !== null && current.state === WorkerState.Accepting && current.link !== null
    if (!accepts) return `slot ${slot.index} has no worker that accepts`
    if (current.generation !== generation.number) return `worker ${current.id} is not of generation ${generation.number}`
  }
  const known = new Set([...fleet.workers()].map(worker => worker.id))
  for (const worker of living) if (!known.has(worker.id)) return `worker ${worker.id} lives, but is in no slot`
  if (world.workers.size > living.length) return `a zombie: ${[...world.workers].find(worker => !worker.alive)!.id}`
  const { generations } = fleet.record(0)
  if (generations.length !== 1) return `generations without workers are not forgotten: ${generations.map(one => one.number).join(' ')}`
  return miscounted(world, image) || holders(world, image, table.listeners, living)
}

/** Each worker has counted its heartbeats; the totals have those of every worker that ever was, once. */
function miscounted({ counted }: World, { ledger }: SimSupervisor): string {
  const { totals, missing } = ledger.totals()
  const total = totals.get('beats_total')?.series.get('')?.values[0] ?? 0
  if (total === counted && missing === 0) return ''
  return `(13) ${total} heartbeats are in the totals, ${counted} were counted, ${missing} workers cannot be read`
}

/** Every holder of every socket is one that the tables name. */
function holders(world: World, image: SimSupervisor, listeners: SimSupervisor['table']['listeners'], living: readonly SimWorker[]): string {
  const { kernel } = world
  const fleet = image.fleet!
  const held = new Map<SimSocket, number>()
  const count = (socket: SimSocket): void => { held.set(socket, (held.get(socket) ?? 0) + 1) }
  const descriptors = new Set(image.table.allDescriptors)
  for (const [fd, { socket }] of kernel.descriptors) {
    if (!descriptors.has(fd)) return `(6) descriptor ${fd} of ${socket.address} is in no table`
    count(socket)
  }
  const opened = kernel.descriptors.size
  if (opened !== descriptors.size) return `(6) the table has ${descriptors.size} descriptors, ${opened} are open`
  for (const worker of living) {
    for (const socket of worker.sockets) count(socket)
    for (const acceptors of worker.acceptors.values()) for (const socket of acceptors.values()) count(socket)
  }
  for (const socket of kernel.sockets) {
    const { holders, queue, acceptors } = socket
    const name = `socket ${socket.inode} of ${socket.address}`
    if (holders !== held.get(socket)) return `(6) ${name} has ${holders} holders, ${held.get(socket) ?? 0} are known`
    if (socket.shut) return `(6) ${name} was shut down and is still held`
    if (queue.length > 0 && acceptors.size === 0) return `(1) ${queue.length} dials wait at ${name}, nobody accepts`
  }
  const wanted = fleet.generation.description.listeners.map(listener => listener.canonical).toSorted().join(' ')
  const bound = listeners.map(listener => listener.canonical).toSorted().join(' ')
  if (wanted !== bound) return `the committed generation listens on ${wanted}, bound is ${bound}`
  for (const listener of listeners) {
    for (const [index, { fd }] of listener.sockets.entries()) {
      const socket = kernel.socketOf(fd)
      const accept = living.filter(worker => socket.acceptors.has(worker)).map(worker => worker.id).toSorted().join(' ')
      const expected = listener.shared ? everyCurrent(fleet) : acceptorOf(fleet, index)
      if (accept !== expected) return `slot ${index} of ${listener.canonical} is accepted by '${accept}', not by '${expected}'`
    }
  }
  return ''
}

/** Of a socket that all slots share. */
function everyCurrent(fleet: Fleet): string {
  return fleet.slots.flatMap(slot => slot.current === null ? [] : [slot.current.id]).toSorted().join(' ')
}

/** Of a slot's own socket. */
function acceptorOf({ slots, generation }: Fleet, index: number): string {
  const slot = slots[index]
  if (slot === undefined) return ''
  if (slot.index < generation.workers) return slot.current!.id
  return slot.hasQueue ? slot.standIn.worker?.id ?? 'nobody' : ''
}
