/** Who owns the options in force and the generation's number, and what a release may change while the server runs. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { SENTRY_DEFAULTS } from '../../src/config/sentry-options.ts'
import type { ServerConfig } from '../../src/config/server-config.ts'
import { resolveSupervisorOptions } from '../../src/config/supervisor-options.ts'
import type { SupervisorOptions } from '../../src/config/supervisor-options.ts'
import { TLS_DEFAULTS } from '../../src/config/tls-options.ts'
import { SILENT_LOG } from '../../src/ipc/process-log.ts'
import type { SystemCalls } from '../../src/ipc/system-calls.ts'
import type { ErrorReports } from '../../supervisor/error-reports.ts'
import type { Fleet } from '../../supervisor/fleet.ts'
import type { Generation } from '../../supervisor/generation.ts'
import type { Holdings } from '../../supervisor/holdings.ts'
import type { JournalEntry } from '../../supervisor/journal.ts'
import { ReleaseWorld } from '../../supervisor/release-world.ts'
import type { Release } from '../../supervisor/releases.ts'
import type { SupervisorSetup, SupervisorWorld } from '../../supervisor/supervisor-world.ts'
import type { OperationRequest } from '../../supervisor/upgrade.ts'

const UPGRADE: OperationRequest = { kind: 'upgrade', folder: '/r2', supervisor: 'if-changed' }
const SELF_TEST = { method: 'GET', path: '/', headers: {}, expect: { statusMin: 200, statusMax: 200 }, timeoutMs: 1, upstream: false }
const IDENTITY = { uid: null, gid: null }

function release(folder: string): Release {
  const entries = { worker: 'w', describe: 'd', boot: 'b', resume: 'r' }
  return { folder, application: `${folder}/app.ts`, installation: folder, entries, node: '/node', fingerprint: `code of ${folder}` }
}

/** Adds a property that a test may change later. */
function readAnew<T extends object, K extends string, V>(to: T, name: K, get: () => V): T & { readonly [P in K]: V } {
  return Object.defineProperty(to, name, { get }) as T & { readonly [P in K]: V }
}

class Fixture {
  /** What the configuration says when it is read. */
  said: SupervisorOptions = { workers: 2 }
  calls: SystemCalls | null = {} as SystemCalls
  readonly flips: string[] = []
  stopping = false
  sentry: ServerConfig['sentry'] = SENTRY_DEFAULTS
  readonly configured: ServerConfig['sentry'][] = []
  serving: Generation | null = null
  nowMs = 0
  describeMs = 100
  bootTimeoutMs = 0
  exec: () => Promise<never> = () => Promise.reject(new Error('E2BIG'))
  readonly frozen: string[] = []
  readonly releases: ReleaseWorld

  constructor() {
    const setup = {
      application: '/current/app.ts', args: [], origin: { file: '', folder: '/', flags: {} }, config: this.#config(),
      readConfig: () => this.#config(), stateFolder: { path: '/state', ours: true }, log: SILENT_LOG,
    } satisfies SupervisorSetup
    const world = {
      own: { pid: 1, node: '/node', nodeVersion: 'v0', execArgv: [], version: '0' },
      wallMs: () => 0,
      turn: async () => {},
      resolveIdentity: () => IDENTITY,
      host: { nowMs: () => this.nowMs } as SupervisorWorld['host'],
      describe: async () => {
        this.nowMs += this.describeMs
        return { format: 1, services: [], listeners: [], selfTest: SELF_TEST }
      },
      releases: {
        releaseOf: () => release('/r1'), read: release, fingerprintOf: folder => `code of ${folder}`,
        current: () => this.flips.at(-1) ?? '/r1', fileOnceCurrent: (_application, file) => file,
        flip: (_application, folder) => { this.flips.push(folder) }, changedSince: () => false,
      },
      exec: ({ bootTimeoutMs }) => {
        this.bootTimeoutMs = bootTimeoutMs
        return this.exec()
      },
    } satisfies Partial<SupervisorWorld>
    const told = { reloading: () => {}, ready: () => {}, environmentForExec: () => ({}) }
    const holdings = readAnew({
      systemCallsText: 'not available: test', serviceManager: told, allDescriptors: [],
    }, 'calls', () => this.calls)
    const fleet = readAnew({
      freeze: async () => { this.frozen.push('frozen') },
      thaw: () => { this.frozen.push('thawed') },
    }, 'generation', () => this.serving)
    const reports = {
      configure: (options: ServerConfig['sentry']) => { this.configured.push(options) }, begin() {},
      flush: async () => { this.frozen.push('reports flushed') },
    } as unknown as ErrorReports
    const life = {
      fleet: fleet as unknown as Fleet, journalEntry: () => ({}) as JournalEntry, record: () => true, operationEnded() {}, reports,
    }
    this.releases = new ReleaseWorld(
      setup, world as unknown as SupervisorWorld, holdings as unknown as Holdings, readAnew(life, 'stopping', () => this.stopping),
    )
  }

  #config(): ServerConfig {
    const supervisor = resolveSupervisorOptions(this.said), log = {} as ServerConfig['log']
    return { file: '', supervisor, log, traces: {}, tls: TLS_DEFAULTS, limits: {}, listeners: {}, sentry: this.sentry }
  }

  /** A server of the first generation. */
  async started(): Promise<this> {
    const first = this.releases.begin(null)
    this.serving = await this.releases.first(first, IDENTITY, new AbortController().signal)
    return this
  }

  prepare(request = UPGRADE): ReturnType<ReleaseWorld['prepare']> { return this.releases.prepare(request, new AbortController().signal) }
}

test('release world: a plan changes nothing; its options are in force from the flip on', async () => {
  const server = await new Fixture().started()
  server.said = { workers: 5 }
  const plan = await server.prepare()
  assert.equal(plan.options.workers, 5)
  assert.equal(server.releases.options.workers, 2)
  server.releases.flip(plan)
  assert.equal(server.releases.options, plan.options)
  assert.deepEqual(server.flips, ['/r2'])
  assert.equal(server.releases.flipped(plan), true)
})

test('release world: a number is given once, to a generation that is refused as well, and never goes back', async () => {
  const server = await new Fixture().started()
  assert.deepEqual([server.serving!.number, server.releases.number], [1, 1])
  server.said = { workers: 2, stateDir: '/elsewhere' }
  await assert.rejects(server.prepare(), /stateDir/)
  server.said = { workers: 2 }
  assert.equal((await server.prepare()).generation.number, 3)
  assert.equal(server.releases.number, 3)

  const next = new Fixture()
  next.releases.begin({ generation: 2, upgrades: { lastNumber: 7 } } as JournalEntry)
  assert.equal(next.releases.number, 7)
})

test('release world: what sockets and processes were made with cannot change while the server runs', async () => {
  for (const said of [{ stateDir: '/a' }, { adminAddress: '127.0.0.1:1' }, { user: 'b' }, { group: 'c' }] satisfies SupervisorOptions[]) {
    const server = await new Fixture().started()
    server.said = said
    await assert.rejects(server.prepare(), { name: 'OptionError', message: /cannot change while the server runs/ })
  }
})

test('release world: the supervisor is replaced when its code differs or when that is asked for, and never by a reload', async () => {
  const server = await new Fixture().started()
  const replaces = async (request: OperationRequest): Promise<boolean> => (await server.prepare(request)).replaceSupervisor
  assert.equal(await replaces(UPGRADE), true)
  assert.equal(await replaces({ ...UPGRADE, folder: '/r1' }), false)
  assert.equal(await replaces({ ...UPGRADE, folder: '/r1', supervisor: 'always' }), true)
  assert.equal(await replaces({ kind: 'reload', folder: '', supervisor: 'if-changed' }), false)
  server.calls = null
  assert.equal(await replaces(UPGRADE), false)
  await assert.rejects(replaces({ ...UPGRADE, supervisor: 'always' }), { name: 'Refused', message: /cannot replace itself: not available/ })
})

test('release world: an exec that cannot even be tried leaves a fleet that forks again', async () => {
  const server = await new Fixture().started()
  const plan = await server.prepare()
  await assert.rejects(server.releases.replaceSupervisor(plan), { name: 'Refused', message: /could not be replaced: E2BIG/ })
  assert.deepEqual(server.frozen, ['reports flushed', 'frozen', 'thawed'])
  server.stopping = true
  server.exec = () => assert.fail('nothing is executed by a server that stops')
  await assert.rejects(server.releases.replaceSupervisor(plan), { name: 'Refused', message: 'the server is stopping' })
})

test('release world: a new supervisor has longer where its release took long to be described, but not for ever', async () => {
  for (const [describeMs, bootTimeoutMs] of [[200, 5_000], [1_000, 8_000], [15_000, 30_000]] as const) {
    const server = await new Fixture().started()
    server.describeMs = describeMs
    await assert.rejects(server.releases.replaceSupervisor(await server.prepare()), { name: 'Refused' })
    assert.equal(server.bootTimeoutMs, bootTimeoutMs)
  }
  const patient = await new Fixture().started()
  patient.said = { workers: 2, upgrade: { bootTimeoutMs: 60_000 } }
  await assert.rejects(patient.releases.replaceSupervisor(await patient.prepare()), { name: 'Refused' })
  assert.equal(patient.bootTimeoutMs, 60_000)
})

test('release world: adopted workers are outdated by another release, other workers, other settings', async () => {
  const server = await new Fixture().started()
  const adopted = server.serving!
  assert.equal(server.releases.outdated(adopted), null)
  assert.deepEqual(server.releases.outdated({ ...adopted, workers: 9 }), { kind: 'reload', folder: '/r1', supervisor: 'if-changed' })
  assert.equal(server.releases.outdated({ ...adopted, release: release('/r0') })?.kind, 'upgrade')
  assert.equal(server.releases.outdated({ ...adopted, args: ['--more'] })?.kind, 'reload')
})

test('release world: where errors are reported to changes with the flip and is in no plan; workers learn that they may tell', async () => {
  const server = await new Fixture().started()
  assert.equal(server.serving!.settings.reportsFaults, undefined)
  server.sentry = { ...SENTRY_DEFAULTS, dsn: 'https://5ecre7word@sentry.example.com/42' }
  const plan = await server.prepare()
  assert.equal(plan.generation.settings.reportsFaults, true)
  assert.doesNotMatch(JSON.stringify(plan), /5ecre7word/)
  assert.deepEqual(server.configured, [])
  server.releases.flip(plan)
  assert.deepEqual(server.configured, [server.sentry])
})
