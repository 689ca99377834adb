/**
 * Whether a journal that was found on the disk has what a start needs of it. It was written by us, perhaps by another build, on
 * a disk that people and machines can damage: what is not whole must cost the adoption of workers, never the start.
 * Fields that a build added are not asked for, and those of later builds are let through.
 */

/** A list has one shape in it, of all its items; `orNull` allows null as well. */
type Shape = 'text' | 'filled text' | 'whole number' | 'number' | 'flag' | readonly [Shape] | OrNull | { readonly [field: string]: Shape }

class OrNull {
  readonly shape: Shape
  constructor(shape: Shape) { this.shape = shape }
}

function orNull(shape: Shape): OrNull { return new OrNull(shape) }

const WORKER: Shape = {
  generation: 'whole number', slot: 'whole number', n: 'whole number', token: 'filled text', pid: 'whole number', startTime: 'text',
  phase: 'text', intent: 'text', place: 'text', startedAt: 'number', acceptingSince: orNull('number'), drainingSince: orNull('number'),
  drainEndsAt: orNull('number'), exchanges: 'whole number', ownFaults: 'whole number', slotsHeld: 'whole number',
}

const SLOT: Shape = {
  hasQueue: 'flag', surplus: 'flag', restarts: 'whole number', nextN: 'whole number', standIn: 'text', workers: [WORKER],
}

const GENERATION: Shape = {
  number: 'whole number', readAt: 'number', args: ['text'], execArgv: ['text'], uid: orNull('whole number'), gid: orNull('whole number'),
  workers: 'whole number',
  release: { folder: 'text', application: 'text', node: 'text', fingerprint: 'text', entries: {} },
  description: {
    services: [{}], selfTest: { timeoutMs: 'number' },
    listeners: [{ name: 'text', service: 'text', canonical: 'text', backlog: 'whole number', address: { kind: 'text' } }],
  },
  settings: { log: {}, limits: {}, listeners: {} },
  layout: { slots: 'whole number', copies: 'whole number', listeners: [{ name: 'text', shared: 'flag' }] },
}

const REQUEST: Shape = { kind: 'text', folder: 'text' }

const UPGRADES: Shape = {
  running: orNull({
    id: 'text', request: REQUEST, step: 'text', steps: [{ step: 'text', ms: 'number' }],
    plan: orNull({ generation: GENERATION, options: {}, replaceSupervisor: 'flag', from: 'text', to: 'text' }),
  }),
  waiting: orNull({ id: 'text', request: REQUEST }),
  outcomes: [{ id: 'text', steps: [{}] }], lastNumber: 'whole number', lastId: 'whole number', previousFolder: 'text',
}

const JOURNAL: Shape = {
  pid: 'whole number', startTime: 'text', application: 'text', args: ['text'], fingerprint: 'text', usualNode: 'text', startedAt: 'number',
  origin: { file: 'text', folder: 'text', flags: {} }, options: {}, generation: 'whole number', slots: 'whole number',
  listeners: [{
    key: 'text', name: 'text', service: 'text', canonical: 'text', bound: 'text', shared: 'flag', ipv6Only: 'flag', unixPath: 'text',
    sockets: [{ fd: 'whole number', inode: 'text' }],
  }],
  sockets: { control: 'whole number', worker: 'whole number', admin: 'whole number' },
  fleet: orNull({
    committed: 'whole number', generations: [GENERATION], slots: [SLOT], buried: { exchanges: 'whole number', ownFaults: 'whole number' },
  }),
  upgrades: orNull(UPGRADES),
}

/** What is wrong with it, and where; '' when it is whole. */
export function journalProblem(entry: unknown): string { return problemIn(entry, JOURNAL, 'journal') }

function problemIn(value: unknown, shape: Shape, at: string): string {
  if (shape instanceof OrNull) return value === null ? '' : problemIn(value, shape.shape, at)
  if (typeof shape === 'string') return isOf(value, shape) ? '' : `${at} is no ${shape}`
  if (isList(shape)) {
    if (!Array.isArray(value)) return `${at} is no list`
    return first(value.map((item, index) => problemIn(item, shape[0], `${at}[${index}]`)))
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return `${at} is no section`
  const fields = value as Readonly<Record<string, unknown>>
  return first(Object.entries(shape).map(([name, one]) => problemIn(fields[name], one, `${at}.${name}`)))
}

function isList(shape: Exclude<Shape, string | OrNull>): shape is readonly [Shape] { return Array.isArray(shape) }
function first(problems: readonly string[]): string { return problems.find(problem => problem !== '') ?? '' }

function isOf(value: unknown, shape: Exclude<Shape, object>): boolean {
  switch (shape) {
    case 'text': return typeof value === 'string'
    case 'filled text': return typeof value === 'string' && value !== ''
    case 'number': return Number.isFinite(value)
    case 'whole number': return Number.isSafeInteger(value)
    case 'flag': return typeof value === 'boolean'
    default: return shape satisfies never
  }
}
