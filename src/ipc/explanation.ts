/**
 * What would happen to a request, as a worker found out by running the application's own hooks on it, up to the moment in which
 * its head would leave for an origin. Plain JSON. server/explain.ts makes it, the command line draws it.
 */

/** A request that nobody sent. */
export interface ExplainRequest {
  /** Name of the listener that takes it. */
  readonly listener: string
  readonly method: string
  /** As it stands in the request line. */
  readonly target: string
  /** In this order. Host is among them. */
  readonly headers: readonly (readonly [name: string, value: string])[]
  /** Address of the client. */
  readonly from: string
}

/**
 * `forwarded`: its head would go to the peer. `answered`: a hook answers. `failed`: a hook threw, or there is no peer. `refused`: no
 * hook sees it. `turned-away`: the client is not let in. `unfinished`: a hook has given nothing by the end of the time.
 */
export type ExplainedOutcome = 'forwarded' | 'answered' | 'failed' | 'refused' | 'turned-away' | 'unfinished'

export interface Explanation {
  readonly service: string
  readonly listener: string
  readonly outcome: ExplainedOutcome
  /** Why, in one clause; '' when the outcome says it all. */
  readonly detail: string
  /** What the listener's connectionFilter said of the client; '' when it has none. */
  readonly filter: '' | 'lets it in' | 'turns it away' | 'failed'
  /** Those of the request's phases, in their order; those that were not asked as well. */
  readonly hooks: readonly ExplainedHook[]
  /** Names of those that follow in a real exchange, and were not called. */
  readonly later: readonly string[]
  /** What load balancers were asked, in their order. */
  readonly choices: readonly ExplainedChoice[]
  /** null: none was chosen. */
  readonly peer: ExplainedPeer | null
  /** What would be sent to it; null: nothing. */
  readonly upstream: ExplainedHead | null
  /** What a hook, or the proxy itself, answers; null: nothing does. */
  readonly answer: ExplainedAnswer | null
  readonly error: ExplainedError | null
}

export interface ExplainedHook {
  /** As messages name it: `requestFilter of module auth`. */
  readonly hook: string
  /** What it said: `continue`, `responded`, `threw`, or '' for one that says nothing; `waiting`: nothing yet; null: not asked. */
  readonly said: string | null
  /** Waits for its promise included. */
  readonly ms: number
  /** What it changed in the request line: `target is now /v2/x`; ''. */
  readonly changed: string
}

/** What a load balancer chose from, and what it chose. */
export interface ExplainedChoice {
  readonly balancer: string
  /** `round-robin`, or the name that a selection of the application's own has. */
  readonly selection: string
  /** '': it was not asked with one. */
  readonly key: string
  /** Name of the backend; '': none. */
  readonly chosen: string
  readonly candidates: readonly ExplainedBackend[]
  /** Backends that are not among the candidates here: there is only so much room. */
  readonly candidatesLeftOut: number
}

export interface ExplainedBackend {
  readonly name: string
  readonly weight: number
  readonly ready: boolean
  readonly enabled: boolean
  readonly healthy: boolean
  readonly passive: 'in' | 'out' | 'trial'
  /** Why it gets traffic or none, as of the last change. */
  readonly reason: string
  readonly inFlight: number
}

export interface ExplainedPeer {
  readonly name: string
  readonly tls: boolean
  readonly sni: string
  /** `host:port` of the proxy that is asked for the way; ''. */
  readonly proxy: string
}

export interface ExplainedHead {
  readonly method: string
  readonly target: string
  /** As they would be written, credentials left out. */
  readonly fields: readonly (readonly [name: string, value: string])[]
  readonly fieldsLeftOut: number
}

export interface ExplainedAnswer {
  readonly status: number
  readonly fields: readonly (readonly [name: string, value: string])[]
  readonly fieldsLeftOut: number
  /** The hook that answers; '': the proxy itself does. */
  readonly hook: string
}

export interface ExplainedError {
  readonly kind: string
  readonly message: string
  /** Status of the page for it, unless `failToProxy` knows better; 0: the connection is cut. */
  readonly status: number
  /** '': no hook is to blame. */
  readonly hook: string
  /** Where in the application, as a stack; ''. */
  readonly stack: string
}

export interface ExplainedByWorker {
  readonly worker: string
  /** Listeners that the URL could mean; the first one was asked. */
  readonly listeners: readonly string[]
  readonly request: ExplainRequest
  readonly explanation: Explanation
}

/** What is not such a request says why. */
export function problemOfExplainRequest(given: Readonly<Record<keyof ExplainRequest, unknown>>): string {
  const { listener, method, target, headers, from } = given
  for (const [name, value] of Object.entries({ listener, method, target, from })) if (typeof value !== 'string') return `${name} is no text`
  return Array.isArray(headers) && headers.every(isField) ? '' : 'headers are no list of names and values'
}

function isField(one: unknown): boolean { return Array.isArray(one) && one.length === 2 && one.every(part => typeof part === 'string') }
