/** Why something did not happen, for the operator who asked for it. */

/** An operation that an operator asked for was not done, and everything is as it was before. */
export class Refused extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'Refused'
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
