/** Why something did not happen, for the operator who asked for it. */

/** An operation that an operator asked for was not done, and everything is as it was before. */
export class Refused extends Error {
  /** Of the application, when it is the reason; ''. */
  readonly applicationStack: string
  constructor(message: string, applicationStack = '') {
    super(message)
    this.name = 'Refused'
    this.applicationStack = applicationStack
  }
}

/** A worker ended that something was wanted of. */
export class WorkerEnded extends Error {
  /** What it said of its end; ''. */
  readonly applicationStack: string
  constructor(message: string, applicationStack: string) {
    super(message)
    this.name = 'WorkerEnded'
    this.applicationStack = applicationStack
  }
}

/** No worker was ever ready, so often that another try is pointless. */
export class StartFailed extends Error {
  /** The application's own; '' when it said nothing before it ended. */
  readonly applicationStack: string
  constructor(message: string, applicationStack: string) {
    super(message)
    this.name = 'StartFailed'
    this.applicationStack = applicationStack
  }
}

/** More of a stack travels to no one, in characters: the place is at its beginning. */
const MAX_STACK_LENGTH = 16_384

/** The application's own stack, when an error is about the application; ''. */
export function applicationStackOf(error: unknown): string {
  const { applicationStack } = (error ?? {}) as { readonly applicationStack?: unknown }
  return typeof applicationStack === 'string' ? applicationStack.slice(0, MAX_STACK_LENGTH) : ''
}

/** Found in the configuration: the operator who asked has something to mend. */
export function isConfiguration(error: unknown): boolean {
  return error instanceof Error && (error.name === 'ConfigError' || error.name === 'OptionError')
}
