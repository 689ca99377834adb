/** What goes wrong in a simulated world, and what people do to it: one of everything, by its share. */
import type { SimWorker } from './sim-worker.ts'
import type { World } from './world.ts'

export class Disturbances {
  readonly #world: World

  constructor(world: World) { this.#world = world }

  /** In the middle of an operation's step. */
  inStep(): void {
    const { random } = this.#world
    const living = [...this.#world.workers].filter(worker => worker.alive)
    switch (random.int(0, 4)) {
      case 0: case 1: this.#world.killSupervisor('SIGKILL'); break
      case 2: case 3: if (living.length > 0) random.pick(living).die({ signal: 'SIGKILL' }); break
      default: this.happen()
    }
  }

  /** Anything. */
  happen(): void {
    if (this.#world.calm) return
    const { random } = this.#world
    const living = [...this.#world.workers].filter(worker => worker.alive)
    const upgrade = (supervisor: 'if-changed' | 'always' = 'if-changed'): void => {
      this.#world.operators.ask({ tag: 'upgrade', folder: random.chance(0.15) ? '' : `/r${random.int(0, 7)}`, supervisor })
    }
    const what = random.int(0, 103)
    if (what < 24) upgrade()
    else if (what < 30) upgrade('always')
    else if (what < 38) this.#world.operators.ask({ tag: 'reload' })
    else if (what < 42) this.#world.operators.ask({ tag: 'rollback' })
    else if (what < 50) {
      const worker = random.chance(0.5) ? '' : String(random.int(0, 4))
      this.#world.operators.ask({ tag: 'restart-workers', worker, wait: random.chance(0.7) })
    } else if (what < 59) {
      this.#world.workersWanted = random.int(1, 4)
      this.#world.log(() => `configuration: ${this.#world.workersWanted} workers`)
      if (random.chance(0.5)) this.#world.operators.ask({ tag: 'reload' }); else upgrade()
    } else if (what < 65) {
      this.#changeListeners()
      if (random.chance(0.5)) this.#world.operators.ask({ tag: 'reload' }); else upgrade()
    } else if (what < 73) {
      this.#world.killSupervisor('SIGKILL')
    } else if (what < 83) {
      if (living.length === 0) return
      const worker = random.pick(living)
      const how = random.int(0, 3)
      if (how === 0) worker.throws()
      else if (how === 1 && random.chance(0.3)) worker.rejects()
      else worker.die({ signal: random.pick(['SIGKILL', 'SIGSEGV']) })
    } else if (what < 88) {
      if (living.length > 0) this.#stop(random.pick(living), random.next() * 15_000)
    } else if (what < 91) {
      this.#world.breakConnection()
    } else if (what < 94) {
      this.#world.stall(random.next() * 5_000)
    } else if (what < 96) {
      this.#world.shiftWallClock(random.int(-1, 1) * random.next() * 3_600_000)
    } else if (what < 98) {
      for (let count = random.int(2, 5); count > 0; count--) {
        this.#world.after(random.next() * 2_000, () => { if (!this.#world.calm) upgrade() })
      }
    } else if (what < 99) {
      for (const worker of living) worker.die({ signal: 'SIGKILL' })
    } else if (what < 100) {
      this.#world.operators.ask(random.chance(0.5) ? { tag: 'status' } : { tag: 'reopen-logs' })
    } else if (what < 103) {
      this.#world.startRival()
    } else {
      const signal = random.pick(['SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const)
      this.#world.log(() => `${signal} to the supervisor`)
      this.#world.image?.supervisor.onSignal(signal)
    }
  }

  /** Workers get no turn for a while, none long enough to be taken for one that hangs. */
  machineIsBusy(): void {
    const { pace, options, workers, calm } = this.#world
    if (calm) return
    for (const worker of workers) if (worker.alive && pace.chance(0.7)) this.#stop(worker, pace.next() * options.abortAfterSilenceMs * 0.7)
  }

  #stop(worker: SimWorker, forMs: number): void {
    this.#world.log(() => `SIGSTOP to ${worker.id}`)
    worker.stop()
    this.#world.after(forMs, () => {
      if (!worker.alive || !worker.stopped) return
      this.#world.log(() => `SIGCONT to ${worker.id}`)
      worker.resume()
    })
  }

  #changeListeners(): void {
    const { random } = this.#world
    const extra = { name: 'c', address: `127.0.0.1:${random.int(90, 92)}` }
    const { listeners } = this.#world
    const fewer = listeners.length > 1 && random.chance(0.5)
    this.#world.listeners = fewer ? listeners.slice(0, -1) : [...listeners.filter(listener => listener.name !== 'c'), extra]
    // Another program cannot have what we hold.
    const held = [...this.#world.kernel.sockets].some(socket => socket.address === extra.address)
    if (random.chance(0.1) && !held) this.#world.kernel.foreign.add(extra.address)
    this.#world.log(() => `configuration: listeners ${this.#world.listeners.map(({ name, address }) => `${name}=${address}`).join(' ')}`)
  }
}
