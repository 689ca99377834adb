/** Operators of a simulated world: they ask over the control socket, and follow an operation through the loss of supervisors. */
import type { FromOperator, OperationOutcome } from '../../src/ipc/messages.ts'
import { CONTROL_SOCKET } from '../../supervisor/state-folder.ts'
import { STATE_FOLDER } from './sim-supervisor.ts'
import type { SimSupervisor } from './sim-supervisor.ts'
import type { World } from './world.ts'

export class Operators {
  /** Questions that have not been answered. */
  readonly asking = new Set<string>()
  readonly #world: World

  constructor(world: World) { this.#world = world }

  /** Asks; across the loss of a connection an operator asks for the outcome again. */
  ask(message: FromOperator, done: (result: unknown, refusal: string | null) => void = () => {}): void {
    this.#world.count('asked')
    const question = `${message.tag} #${this.#world.counts['asked']}`
    this.asking.add(question)
    this.#world.log(() => `operator: ${JSON.stringify(message)}`)
    const { lineage } = this.#world
    this.#question(message, (result, refusal) => {
      this.asking.delete(question)
      this.#world.log(() => `answer to ${message.tag}: ${refusal ?? JSON.stringify(result).slice(0, 300)}`)
      done(result, refusal)
      const id = (result as { id?: string } | null)?.id
      if (refusal === null && id !== undefined && message.tag !== 'outcome') this.#follow(id, lineage, done)
    })
  }

  /** Waits for an operation's outcome, through whatever happens to supervisors. */
  #follow(id: string, lineage: number, done: (result: unknown, refusal: string | null) => void): void {
    const question = `outcome of ${id} (${lineage})`
    this.asking.add(question)
    const again = (): void => {
      if (this.#world.lineage !== lineage || this.#world.stopped) { this.asking.delete(question); return }
      let said = false
      let heardBy: SimSupervisor | null = null
      this.#question({ tag: 'outcome', id }, (result, refusal) => {
        if (refusal === 'lost') {
          const silent = this.#world.stopped && heardBy?.stopping === true && !said
          if (silent) this.#world.violation(`(5) the server stopped without saying how ${id} ended`)
          this.#world.after(500, again)
          return
        }
        this.asking.delete(question)
        this.#world.log(() => `outcome of ${id}: ${refusal ?? JSON.stringify(result).slice(0, 300)}`)
        if (refusal !== null) {
          const forgotten = this.#world.lineage === lineage && refusal.includes('no operation')
          if (forgotten) this.#world.violation(`(5) nobody knows ${id} any more: ${refusal}`)
          return
        }
        const outcome = result as OperationOutcome
        if (outcome.id !== id) this.#world.violation(`(5) asked for ${id}, told of ${outcome.id}`)
        this.#world.count(outcome.result)
        if (outcome.result !== 'committed' && outcome.reason === '') this.#world.violation(`(5) ${id} is ${outcome.result} for no reason`)
        done(result, null)
      }, image => { heardBy = image }, () => { said = true })
    }
    again()
  }

  /** @param heard the supervisor has the question. @param said it has answered; the operator may be gone by then. */
  #question(
    message: FromOperator, answered: (result: unknown, refusal: string | null) => void,
    heard: (image: SimSupervisor) => void = () => {}, said: () => void = () => {},
  ): void {
    const end = this.#world.dialControl(`${STATE_FOLDER}/${CONTROL_SOCKET}`, null, { heard: image => heard(image as SimSupervisor), said })
    if (end === null) { this.#world.after(1, () => answered(null, 'lost')); return }
    end.ask(message, null).then(result => answered(result, null), (error: { code: string; message: string }) => {
      answered(null, error.code === 'closed' ? 'lost' : error.message)
    }).finally(() => end.close())
  }
}
