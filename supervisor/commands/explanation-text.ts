/** What `cirque explain` says to a person. Texts come from the request, from hooks and from peers, so each is made printable. */
import { errorDetail } from '../../src/errors/code-frame.ts'
import type {
  ExplainedAnswer, ExplainedByWorker, ExplainedChoice, ExplainedHead, ExplainedHook, ExplainedOutcome, Explanation,
} from '../../src/ipc/explanation.ts'
import { shownText } from './shown-text.ts'
import { timeText } from './waterfall.ts'

/** Longest text of one value, in characters. */
const MAX_VALUE_LENGTH = 200
const HOOK_WIDTH = 40

/** Without a line break at the end. */
export function explanationText({ worker, listeners, request, explanation }: ExplainedByWorker): string {
  const { method, target, from } = request, { hooks, later, choices, peer, upstream, answer } = explanation
  return [
    `${shown(method)} ${shown(target)}, from ${shown(from)}, asked in worker ${shown(worker)}`,
    ...listenerLines(listeners, explanation),
    'hooks',
    ...hooks.map(hookLine),
    ...later.length === 0 ? [] : [`  behind that, and not run here: ${later.map(name => shown(name)).join(', ')}`],
    ...choices.flatMap(choiceLines),
    ...peer === null ? [] : [peerLine(peer)],
    ...upstream === null ? [] : ['sent to it', `  ${shown(upstream.method)} ${shown(upstream.target)}`, ...fieldLines(upstream)],
    ...answer === null ? [] : ['answer', `  ${answer.status}`, ...fieldLines(answer)],
    `outcome: ${outcomeText(explanation)}`,
    ...stackLines(explanation),
  ].join('\n')
}

function listenerLines(listeners: readonly string[], { listener, service, filter }: Explanation): string[] {
  const others = listeners.filter(name => name !== listener)
  return [
    `listener ${shown(listener)} of service ${shown(service)}${filter === '' ? '' : `; its connectionFilter ${filter}`}`,
    ...others.length === 0 ? [] : [`  the URL could also lead to ${others.map(name => shown(name)).join(', ')}; --listener says which`],
  ]
}

function hookLine({ hook, said, ms, changed }: ExplainedHook): string {
  const word = said === null ? 'not reached' : said === '' ? 'ran' : shown(said)
  const time = said === null ? '' : `  ${timeText(ms)} ms`
  return `  ${shown(hook).padEnd(HOOK_WIDTH)} ${word}${time}${changed === '' ? '' : `; ${shown(changed)}`}`
}

function choiceLines({ balancer, selection, key, chosen, candidates, candidatesLeftOut }: ExplainedChoice): string[] {
  const by = `${shown(selection)}${key === '' ? '' : ` for the key ${shown(key)}`}`
  const ready = candidates.filter(one => one.ready).length, all = candidates.length + candidatesLeftOut
  return [
    `load balancer ${shown(balancer)}: ${chosen === '' ? 'no backend' : shown(chosen)}, by ${by}, of ${all} backends`,
    ...ready === all ? [] : [`  ${candidatesLeftOut > 0 ? `${ready} of the first ${candidates.length}` : String(ready)} get traffic`],
    ...candidates.map(backend => {
      const { name, weight, inFlight } = backend, mark = name === chosen ? '*' : ' '
      return `  ${mark} ${shown(name).padEnd(HOOK_WIDTH - 2)} weight ${weight}, ${inFlight} in flight, ${healthOf(backend)}`
    }),
    ...candidatesLeftOut > 0 ? [`    and ${candidatesLeftOut} more`] : [],
  ]
}

function healthOf({ ready, enabled, healthy, passive, reason }: ExplainedChoice['candidates'][number]): string {
  const because = reason === '' ? '' : ` (${shown(reason)})`
  if (!enabled) return `disabled${because}`
  if (!healthy) return `unhealthy${because}`
  if (passive === 'out') return `out for failed attempts${because}`
  if (passive === 'trial') return `on trial${because}`
  return ready ? 'ready' : `not ready${because}`
}

function peerLine({ name, tls, sni, proxy }: NonNullable<Explanation['peer']>): string {
  const secured = tls ? `, with TLS${sni === '' ? '' : ` as ${shown(sni)}`}` : ''
  return `peer ${shown(name)}${secured}${proxy === '' ? '' : `, by way of the proxy ${shown(proxy)}`}`
}

function fieldLines({ fields, fieldsLeftOut }: Pick<ExplainedHead | ExplainedAnswer, 'fields' | 'fieldsLeftOut'>): string[] {
  const lines = fields.map(([name, value]) => `  ${shown(name)}: ${shown(value)}`)
  return fieldsLeftOut > 0 ? [...lines, `  and ${fieldsLeftOut} more`] : lines
}

function outcomeText({ outcome, detail, peer, answer, error, later }: Explanation): string {
  const by = answer === null || answer.hook === '' ? 'the proxy itself' : shown(answer.hook)
  const status = error === null ? 0 : error.status
  const unless = later.includes('failToProxy') ? ', unless failToProxy answers' : ''
  const page = status === 0 ? '; the connection is cut' : `; the client gets ${status}${unless}`
  const why = error === null ? '' : `: ${shown(error.message, Infinity)}`
  const text: Readonly<Record<ExplainedOutcome, string>> = {
    'forwarded': `it would be sent to ${peer === null ? 'its peer' : shown(peer.name)}; nothing was`,
    'answered': `${by} answers${answer === null ? '' : ` with ${answer.status}`}`,
    'failed': `it fails${error === null || error.hook === '' ? '' : ` in ${shown(error.hook)}`}${why}${page}`,
    'refused': `it is refused before any hook sees it${why}; the client gets ${status}`,
    'turned-away': 'the connection is reset before anything is read',
    'unfinished': `nothing has come of it in time${detail === '' ? '' : `: ${shown(detail)}`}`,
  }
  return text[outcome] ?? shown(outcome)
}

function stackLines({ error }: Explanation): string[] {
  if (error === null || error.stack === '') return []
  return errorDetail(error.stack, undefined, error.message).split('\n').map(line => shownText(line))
}

function shown(text: string, longest = MAX_VALUE_LENGTH): string { return shownText(text, longest) }
