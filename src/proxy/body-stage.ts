/**
 * The filters of one body, in their order, as the plan of phases joins them from the application and its modules.
 *
 * What a filter does to a body may differ from message to message: a module that compresses leaves images alone. One that says so
 * (`bodyUse`) is asked before the head of each message is sent, and `for()` gives the stage that holds for it. Stages are kept by
 * what was answered, so that a message pays for questions and a look-up, and one that nothing filters passes as if there were no
 * filters at all.
 * Invariant: for a body that is announced to have no bytes no chunk filter is called.
 */
import { asProxyError } from '../errors/proxy-error.ts'
import type { HeaderMap } from '../http/header-map.ts'
import { isPromise } from '../primitives/application-call.ts'
import { showValue } from '../primitives/option-table.ts'
import type { BodyResult, BodyUse } from './session.ts'

export type ChunkFilter<Subject> = (subject: Subject, chunk: Buffer, last: boolean) => BodyResult | Promise<BodyResult>
/** What it returns is sent as the last piece of the body, instead of the trailers. */
export type TrailerFilter<Subject> = (subject: Subject, trailers: HeaderMap) => Buffer | void | Promise<Buffer | void>

/** One filter, of chunks or of trailers. */
export interface StageFilter<Subject, Filter> {
  readonly filter: Filter
  /** Who is to blame. */
  readonly hook: string
  /** It leaves as many bytes as it was given, unless `use` knows better. */
  readonly keepsLength: boolean
  /** Asked for each message; null: it does the same to all. */
  readonly use: ((subject: Subject) => unknown) | null
  /** The hook that `use` calls, as messages name it. */
  readonly useHook: string
}

/** Stages that are kept by what was answered. More answers than that are none that come again and again. */
const MAX_KEPT = 64

export class BodyStage<Subject> {
  readonly filters: readonly ChunkFilter<Subject>[]
  readonly trailerFilters: readonly TrailerFilter<Subject>[]
  /** Names of both, in their order. */
  readonly hooks: readonly string[]
  readonly trailerHooks: readonly string[]
  /** The filters keep the number of bytes. */
  readonly keepsLength: boolean
  readonly #chunks: readonly StageFilter<Subject, ChunkFilter<Subject>>[]
  readonly #trailers: readonly StageFilter<Subject, TrailerFilter<Subject>>[]
  /** By what was answered; null: nothing is asked. */
  readonly #kept: Map<number, BodyStage<Subject> | null> | null
  /** For a body without bytes; undefined: not made yet. */
  #empty: BodyStage<Subject> | null | undefined = undefined

  constructor(
    chunks: readonly StageFilter<Subject, ChunkFilter<Subject>>[], trailers: readonly StageFilter<Subject, TrailerFilter<Subject>>[],
  ) {
    this.filters = chunks.map(({ filter }) => filter)
    this.hooks = chunks.map(({ hook }) => hook)
    this.trailerFilters = trailers.map(({ filter }) => filter)
    this.trailerHooks = trailers.map(({ hook }) => hook)
    this.keepsLength = chunks.every(({ keepsLength }) => keepsLength) && trailers.every(({ keepsLength }) => keepsLength)
    this.#chunks = chunks
    this.#trailers = trailers
    this.#kept = chunks.some(isAsked) || trailers.some(isAsked) ? new Map() : null
  }

  /** The filters of this stage, then those of `other`. */
  join(other: BodyStage<Subject>): BodyStage<Subject> {
    return new BodyStage([...this.#chunks, ...other.#chunks], [...this.#trailers, ...other.#trailers])
  }

  /** Null when it has no filter at all. */
  get used(): BodyStage<Subject> | null { return this.filters.length === 0 && this.trailerFilters.length === 0 ? null : this }

  /**
   * What is left of it for one message; null: nothing.
   * @param empty the message is announced to have no bytes
   * @throws ProxyError that names the hook which threw, or answered with no word that it may
   */
  for(subject: Subject, empty: boolean): BodyStage<Subject> | null {
    const stage = empty ? this.#withoutChunks() : this
    return stage === null || stage.#kept === null ? stage : stage.#chosen(subject, stage.#kept)
  }

  #withoutChunks(): BodyStage<Subject> | null {
    if (this.#empty === undefined) {
      // To a body of no bytes nothing can be added, whatever a trailer filter returns.
      this.#empty = new BodyStage<Subject>([], this.#trailers.map(one => ({ ...one, keepsLength: true, use: null }))).used
    }
    return this.#empty
  }

  #chosen(subject: Subject, kept: Map<number, BodyStage<Subject> | null>): BodyStage<Subject> | null {
    let key = 0
    const uses: BodyUse[] = []
    for (const one of [...this.#chunks, ...this.#trailers]) {
      const use = one.use === null ? one.keepsLength ? 'keepLength' : 'change' : ask(one, subject)
      uses.push(use)
      if (one.use !== null) key = key * WORDS.length + WORDS.indexOf(use)
    }
    let stage = kept.get(key)
    if (stage !== undefined) return stage
    stage = new BodyStage(chosen(this.#chunks, uses, 0), chosen(this.#trailers, uses, this.#chunks.length)).used
    if (kept.size < MAX_KEPT) kept.set(key, stage)
    return stage
  }
}

const WORDS: readonly BodyUse[] = ['change', 'keepLength', 'pass']

function isAsked<Subject>({ use }: StageFilter<Subject, unknown>): boolean { return use !== null }

function ask<Subject>({ use, keepsLength, useHook }: StageFilter<Subject, unknown>, subject: Subject): BodyUse {
  let answer: unknown
  try {
    answer = use!(subject)
    if (isPromise(answer)) {
      answer.then(undefined, () => { /* It was refused. */ })
      throw new TypeError('it returned a promise; its result is needed at once')
    }
    if (answer === undefined) return keepsLength ? 'keepLength' : 'change'
    if (WORDS.includes(answer as BodyUse)) return answer as BodyUse
    throw new TypeError(`it returned ${showValue(answer)}; use 'change', 'keepLength' or 'pass'`)
  } catch (thrown) {
    throw asProxyError(thrown, useHook)
  }
}

/** The filters that take part, `uses` from `at` on. */
function chosen<Subject, Filter>(
  filters: readonly StageFilter<Subject, Filter>[], uses: readonly BodyUse[], at: number,
): StageFilter<Subject, Filter>[] {
  return filters.flatMap((one, index) => {
    const use = uses[at + index]!
    return use === 'pass' ? [] : [{ ...one, keepsLength: use === 'keepLength', use: null }]
  })
}
