/** Why no project was made: where, what was found there, what would do. */
export class ProjectError extends Error {
  /** It was asked for in a way that can never work. */
  readonly usage: boolean
  constructor(message: string, usage: boolean) {
    super(message)
    this.name = 'ProjectError'
    this.usage = usage
  }
}
