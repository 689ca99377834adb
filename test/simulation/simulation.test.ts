/**
 * Thousands of simulated machines, and whether the simulation would notice: each planted bug breaks one rule of every
 * supervisor or worker and has to be found. More seeds: `npm run simulate -- --seeds 200000`.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import path from 'node:path'
import test from 'node:test'
import { promisify } from 'node:util'
import type { PlantedOutcome, SourcePlant } from './planted-source.ts'
import type { SimSupervisor } from './sim-supervisor.ts'
import { failureText, runSeed } from './world.ts'
import type { Plant, RunResult, World } from './world.ts'

const SEEDS = 5_000
/** Run however long they take; everything that must be seen is in the first of them. */
const LEAST_SEEDS = 500
/** What many seeds together must have met. */
const SEEN = [
  'committed', 'rolled-back', 'superseded', 'refused', 'execs', 'execs back', 'supervisor deaths', 'flips', 'ended 0', 'rivals', 'orphans',
  'dark', 'spares used', 'late successors', 'events of kind worker', 'events of kind uncaught', 'events of kind rejection',
  'events of kind operation', 'ticket keys changed',
]
/** After this a machine that is busy with something else leaves out the rest of them, and says so. */
const ENOUGH_MS = 60_000
/** A planted bug that is not found in so many is not found. */
const PLANT_SEEDS = 400
const PLANT_LIMIT_MS = 120_000

test('simulation: whatever happens, every rule holds and everything comes to rest', async t => {
  const startedMs = performance.now()
  let [seeds, events, virtualMs] = [0, 0, 0]
  const counts: Record<string, number> = {}
  while (seeds < LEAST_SEEDS || (seeds < SEEDS && performance.now() - startedMs < ENOUGH_MS)) {
    const result = await runSeed(++seeds)
    events += result.events
    virtualMs += result.virtualMs
    for (const [what, count] of Object.entries(result.counts)) counts[what] = (counts[what] ?? 0) + count
    if (result.failure !== '') assert.fail(failureText(await runSeed(seeds, { keepLog: true })))
  }
  const seconds = (performance.now() - startedMs) / 1_000
  const each = `${Math.round(events / seeds)} events and ${Math.round(virtualMs / seeds / 1_000)} s of virtual time each`
  t.diagnostic(`${seeds} of ${SEEDS} seeds in ${seconds.toFixed(1)} s, ${Math.round(seeds / seconds)} a second; ${each}`)
  const others = `npm run simulate -- --from ${seeds + 1} --seeds ${SEEDS - seeds}`
  if (seeds < SEEDS) t.diagnostic(`this machine was busy: '${others}' runs the others`)
  t.diagnostic(JSON.stringify(counts))
  // What never happened was not looked at.
  for (const what of SEEN) assert.ok((counts[what] ?? 0) > 0, `no seed saw '${what}'`)
})

test('simulation: a seed does the same every time', async () => {
  const [one, other] = [await runSeed(7, { keepLog: true }), await runSeed(7, { keepLog: true })]
  assert.deepEqual(one.log, other.log)
  assert.equal((await runSeed(7)).events, one.events)
})

async function firstFailure(plant: Plant): Promise<RunResult> {
  for (let seed = 1; seed <= PLANT_SEEDS; seed++) {
    const result = await runSeed(seed, { plant })
    if (result.failure !== '') return result
  }
  assert.fail(`${PLANT_SEEDS} seeds did not find the planted bug`)
}

const PLANTS: readonly { readonly bug: string; readonly plant: Plant; readonly found: RegExp }[] = [
  {
    bug: 'the old worker stops before its replacement accepts',
    plant: ({ fleet }) => {
      const takeOver = fleet!.takeOver.bind(fleet)
      fleet!.takeOver = async slot => {
        await slot.current?.link?.ask({ tag: 'stop-accept' }, 1_000).catch(() => {})
        await takeOver(slot)
      }
    },
    found: /told to 'stop-accept', but nobody else accepts/,
  },
  {
    bug: '`current` moves before the commit',
    plant: (image: SimSupervisor, world: World) => {
      const introduce = image.fleet!.introduce.bind(image.fleet)
      image.fleet!.introduce = async (slot, generation) => {
        const plan = image.upgrades!.record().running?.plan ?? null
        if (plan !== null) world.flip(image, plan.to)
        return introduce(slot, generation)
      }
    },
    found: /current moves in step 'canary'/,
  },
  {
    bug: 'a slot that the next generation does not want keeps its worker',
    plant: ({ fleet }) => { fleet!.vacate = () => Promise.resolve() },
    found: /is not surplus|is surplus, but has|lives, but is in no slot|not of generation/,
  },
  {
    bug: 'a slot whose old worker died is not reverted',
    plant: ({ fleet }) => {
      const revert = fleet!.revert.bind(fleet)
      fleet!.revert = to => {
        const all = fleet!.slots
        const returns = (worker: { readonly generation: number } | null): boolean => worker?.generation === to.number
        fleet!.slots = all.filter(slot => slot.index >= to.workers || [slot.current, slot.previous].some(returns))
        const reverted = revert(to)
        fleet!.slots = all
        return reverted
      }
    },
    found: /not of generation|has a worker too many|is being replaced|has no worker that accepts|has no spare|is in no slot/,
  },
  {
    bug: 'a release is committed without its self-test',
    plant: ({ fleet }) => { fleet!.selfTest = () => Promise.resolve('not asked') },
    found: /a release that fails self-test is committed/,
  },
]

for (const { bug, plant, found } of PLANTS) {
  test(`simulation: a planted bug is found: ${bug}`, { timeout: PLANT_LIMIT_MS }, async t => {
    const { seed, failure } = await firstFailure(plant)
    t.diagnostic(`seed ${seed}: ${failure}`)
    assert.match(failure, found)
  })
}

interface SourceBug {
  readonly bug: string
  readonly plant: SourcePlant
  readonly found: RegExp
  /** Where the search begins: one that takes three faults at once shows in one of a thousand seeds. @default 1 */
  readonly from?: number
}

/** Bugs in lines that no test can reach from outside: the text of a file is changed while it is loaded. */
const SOURCE_PLANTS: readonly SourceBug[] = [
  {
    bug: 'a start takes the state folder without asking whether a supervisor answers there',
    plant: {
      file: 'supervisor/control-server.ts',
      edits: [['if (await sockets.answers(this.controlPath)) throw new AlreadyRunning(this.#setup.folder)', '']],
    },
    found: /^\(10\) process \d+ takes \/state\/control\.sock from process \d+, which lives/,
  },
  {
    bug: 'a start writes the journal before the folder is its own',
    plant: {
      file: 'supervisor/supervisor.ts',
      edits: [['await this.#claim(identity, null)', 'this.#journal.write(() => this.journalEntry()); await this.#claim(identity, null)']],
    },
    found: /^\(10\) a supervisor without the folder writes the journal/,
  },
  {
    bug: 'an image forgets that the end of a worker was told',
    plant: {
      file: 'supervisor/worker-incidents.ts',
      edits: [['worker.reported = true\n', '\n']],
    },
    found: /^\(14\) the death of worker \S+ is told twice/,
  },
  {
    bug: 'workers can say hello before the fleet of the supervisor before them is restored',
    plant: {
      file: 'supervisor/supervisor.ts',
      edits: [
        [' && this.#restoreFleet(before)\n    try', '\n    try'],
        ['if (adopting && await', 'if (adopting && (await elapse(this.#host, 100), this.#restoreFleet(before)) && await'],
      ],
    },
    found: /^\(10\) worker [\d.]+ is refused by a supervisor that has its journal and has not tried to adopt it/,
  },
  {
    bug: 'sockets are asked back before the workers that have them are heard of',
    plant: {
      file: 'supervisor/supervisor.ts',
      edits: [['await fleet.awaitWorkers(this.#options.upgrade.adoptTimeoutMs)\n    const w', '0\n    const w']],
    },
    found: /^workers [\d., ]+ hold sockets and can send them, but were not adopted|^\(1\) the queue of .* was lost by last holder/,
    from: 2_700,
  },
  {
    bug: 'a worker that has lost its supervisor drains although orphans are kept',
    plant: {
      file: 'workers/control-client.ts',
      edits: [["if (welcome?.orphanPolicy === 'drain-after') this", 'if (welcome !== null) this']],
    },
    found: /^\(9\) worker [\d.]+ drains as an orphan, but orphans are kept/,
  },
  {
    bug: 'the last slot that could accept waits for its back-off',
    plant: {
      file: 'supervisor/worker-starts.ts',
      edits: [['if (roster.stopping || roster.someoneServes()) return\n    const next', 'if (roster !== null) return\n    const next']],
    },
    found: /^\(11\) for 250 ms no worker serves or comes up/,
  },
  {
    bug: 'no spare is started when all workers hang',
    plant: { file: 'supervisor/spares.ts', edits: [['if (!roster.someoneServes()) this.#forkBesideOneThatHangs()', '']] },
    found: /^\(11\) for 250 ms no worker serves or comes up/,
  },
  {
    bug: 'the time of an order goes on while a worker gets no turn',
    plant: {
      file: 'supervisor/worker-orders.ts',
      edits: [['await Promise.race([link.ask(order, null), overdue.passed])', 'await link.ask(order, this.#roster.options.ackTimeoutMs)']],
    },
    found: /^\(12\) worker [\d.]+ gets SIGKILL: did not obey/,
  },
  {
    bug: 'a key of session tickets encrypts as soon as it is there',
    plant: { file: 'supervisor/ticket-keeper.ts', edits: [['if (isWaitedFor(worker) && !this.#has(worker, ring)) waits = true', '']] },
    found: /^\(15\) worker [\d.]+ encrypts tickets with a key that worker [\d.]+ does not have/,
  },
  {
    bug: 'a key of session tickets is told before it is in the journal',
    plant: {
      file: 'supervisor/ticket-keeper.ts',
      edits: [
        ['ring.prepare(keys) && !this.#world.record()', 'ring.prepare(keys) && ring === null'],
        ['    this.#world.record()\n    this.#world.log.info', '    this.#world.log.info'],
      ],
    },
    found: /^\(1[56]\) worker/,
  },
  {
    bug: 'an orphan whose time is over does not look once more before it drains',
    plant: { file: 'workers/control-client.ts', edits: [['if (this.#triedAtMs >= this.#giveUpAtMs)', 'if (nowMs >= this.#giveUpAtMs)']] },
    found: /^\(9\) worker [\d.]+ drains as an orphan before it has looked for a supervisor once more/,
    from: 1_200,
  },
]

for (const { bug, plant, found, from = 1 } of SOURCE_PLANTS) {
  test(`simulation: a bug in the source is found: ${bug}`, { timeout: PLANT_LIMIT_MS }, async t => {
    const program = path.join(import.meta.dirname, 'planted-source.ts')
    const { stdout } = await promisify(execFile)(process.execPath, [program, JSON.stringify(plant), String(PLANT_SEEDS), String(from)])
    const { seed, failure } = JSON.parse(stdout) as PlantedOutcome
    t.diagnostic(`seed ${seed}: ${failure}`)
    assert.match(failure, found)
  })
}
