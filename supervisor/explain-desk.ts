/**
 * What an operator asks with `cirque explain`: which listener a URL leads to, and which worker is asked what would happen there. The
 * supervisor runs no application code, so the rest is the worker's (src/server/explain.ts).
 */
import { isIP } from 'node:net'
import { ChannelError } from '../src/ipc/channel.ts'
import type { ExplainedByWorker, ExplainRequest, Explanation } from '../src/ipc/explanation.ts'
import type { FromOperator } from '../src/ipc/messages.ts'
import type { HeldListener } from './listener-table.ts'
import { Refused } from './refusals.ts'
import { WorkerState, type WorkerProcess } from './worker-process.ts'

/** The worker gives up after 10 s itself. */
const WORKER_ANSWERS_MS = 15_000

export type ExplainQuestion = Extract<FromOperator, { tag: 'explain' }>
/** What of a listener decides whether it takes a request. */
export type NamedListener = Pick<HeldListener, 'name' | 'bound' | 'ipv6Only'>

/** @throws Refused when no listener or no worker is there for it; ChannelError when the worker refuses, or goes away */
export async function explainByWorker(
  asked: ExplainQuestion, listeners: readonly NamedListener[], workers: Iterable<WorkerProcess>,
): Promise<ExplainedByWorker> {
  const where = readUrl(asked.url), names = listenersFor(where, asked.listener, listeners)
  const request: ExplainRequest = {
    listener: names[0]!, method: asked.method, target: where.target, from: asked.from,
    headers: headersWithHost(asked.headers, where.authority || listeners.find(({ name }) => name === names[0])!.bound),
  }
  let unable = ''
  for (const worker of candidates(asked.worker, workers)) {
    try {
      const explanation = await worker.link!.ask({ tag: 'explain', request }, WORKER_ANSWERS_MS) as Explanation
      return { worker: worker.id, listeners: names, request, explanation }
    } catch (error) {
      // One of an older build: another may be newer.
      if (!(error instanceof ChannelError) || error.code !== 'unknown') throw error
      unable = worker.id
    }
  }
  throw new Refused(`worker ${unable} is of a build that cannot explain; \`cirque reload\` replaces workers`)
}

interface Where {
  /** As it stands in the URL; '' for a path alone. */
  readonly authority: string
  /** Without brackets. */
  readonly host: string
  readonly port: number
  readonly target: string
}

const FORMS = 'use an http URL, or a path such as /api/users'

/** The target stays as it was written: what a URL parser would resolve is for the proxy to see. @throws Refused */
export function readUrl(url: string): Where {
  if (url.startsWith('/') || url === '*') return { authority: '', host: '', port: 0, target: url }
  const [, authority = '', rest = ''] = /^http:\/\/([^/?#]*)([^#]*)/i.exec(url) ?? []
  const [, v6, name, port = '80'] = /^(?:\[([\da-f:.]+)\]|([^@:[\]\s]+))(?::(\d{1,5}))?$/i.exec(authority) ?? []
  if (v6 === undefined && name === undefined) {
    const why = /^https:/i.test(url) ? 'what is explained is a request without TLS; ' : ''
    throw new Refused(`the URL ${JSON.stringify(url)} leads to no listener: ${why}${FORMS}`)
  }
  return { authority, host: v6 ?? name!, port: Number(port), target: rest.startsWith('/') ? rest : `/${rest}` }
}

/** Names of the listeners that it may come in by, the likeliest first. @throws Refused when there is none */
export function listenersFor({ authority, host, port }: Where, wanted: string, listeners: readonly NamedListener[]): string[] {
  const all = listeners.map(({ name, bound }) => `${name} (${bound})`).join(', ')
  if (listeners.length === 0) throw new Refused('no listener is bound yet')
  if (wanted !== '') {
    if (listeners.some(({ name }) => name === wanted)) return [wanted]
    throw new Refused(`there is no listener ${JSON.stringify(wanted)}; there are: ${all}`)
  }
  if (authority === '') return [listeners[0]!.name]
  const fits = listeners.map(listener => ({ name: listener.name, rank: rankOf(listener, host, port) })).filter(({ rank }) => rank > 0)
  if (fits.length === 0) throw new Refused(`no listener takes what comes to ${authority}; there are: ${all}`)
  return fits.sort((one, other) => other.rank - one.rank).map(({ name }) => name)
}

/** 0: it is not reached that way; 3: at exactly this address; 2: at any address of its family; 1: a name may lead there. */
function rankOf({ bound, ipv6Only }: NamedListener, host: string, port: number): 0 | 1 | 2 | 3 {
  const [, v6, v4, boundPort] = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(bound) ?? []
  if (boundPort === undefined || Number(boundPort) !== port) return 0
  const address = v6 ?? v4!, family = isIP(host)
  if (family === 0) return 1
  if (address === host.toLowerCase()) return 3
  if (address === '0.0.0.0') return family === 4 ? 2 : 0
  return address === '::' && (family === 6 || !ipv6Only) ? 2 : 0
}

function headersWithHost(headers: ExplainRequest['headers'], authority: string): ExplainRequest['headers'] {
  // Anything else is refused by the worker, with a reason.
  const hasHost = !Array.isArray(headers) || headers.some(([name]) => String(name).toLowerCase() === 'host')
  return hasHost ? headers : [['Host', authority.startsWith('unix:') ? 'localhost' : authority], ...headers]
}

/** Those that serve, or the one that is meant. @throws Refused */
function candidates(id: string, workers: Iterable<WorkerProcess>): WorkerProcess[] {
  const meant = [...workers].filter(worker => id === '' || worker.id === id)
  const able = meant.filter(({ link, state }) => link !== null && state !== WorkerState.Starting)
  if (able.length === 0) {
    throw new Refused(id === '' ? 'no worker is there to be asked' : `there is no worker '${id}'; \`cirque workers ls\` lists them`)
  }
  return able.sort((one, other) => Number(other.state === WorkerState.Accepting) - Number(one.state === WorkerState.Accepting))
}
