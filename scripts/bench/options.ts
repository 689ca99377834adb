/** The command line of the bench: described once, defaulted once, checked once. */
import { parseArgs } from 'node:util'
import { AFTER, BEFORE, BEFORE_SUFFIX, canCompare } from './comparison.ts'
import type { CirqueForm } from './contenders.ts'
import { TRIALS } from './trials/list.ts'
import type { Trial } from './trials/trial.ts'
import { COMPARED_WORKLOADS, WORKLOADS, type Workload } from './workloads.ts'

export interface BenchOptions {
  /** Names of contenders; null: all, or with `--profile` and `--perf` `cirque` alone. */
  readonly only: readonly string[] | null
  readonly workloads: readonly Workload[]
  readonly trials: readonly Trial[]
  readonly rounds: number
  /** Rounds of the open-loop workload. */
  readonly latencyRounds: number
  readonly seconds: number
  readonly warmUpSeconds: number
  /** Offered rate as a share of what the slowest of cirque, nginx and haproxy can serve. */
  readonly rateFraction: number
  readonly form: CirqueForm
  /** Another checkout of Cirque to compare with, or null. */
  readonly against: string | null
  readonly json: string | null
  readonly profile: boolean
  readonly perf: boolean
  readonly parts: boolean
  readonly proxyCore: number
  readonly loadCore: number
}

/** Single rows of the report. */
const ROW_NAMES: readonly string[] = [...WORKLOADS, ...TRIALS].map(({ name }) => name)
const [WORKLOAD_NAMES, TRIAL_NAMES] = [WORKLOADS, TRIALS].map((rows) => rows.map(({ name }) => name).join(', '))

export const HELP = `Usage: npm run bench -- [options]
  --only a,b             contenders to run; default: all. Told the same things: cirque, nginx, nginx-large-buffers,
                         haproxy, caddy, node:http, fast-proxy, @fastify/http-proxy, http-proxy-3; as they come, access
                         log on: cirque-default, nginx-log (told the same, with the same fields logged), nginx-default,
                         haproxy-default; for single rows: cirque-log, cirque-two, cirque-spare,
                         nginx-two
  --workloads a,b        rows of the report; default: all
                         streams of requests: ${WORKLOAD_NAMES}
                         trials: ${TRIAL_NAMES}
  --against DIR          another checkout of Cirque, with its own node_modules, in the same rounds as \`cirque-before\`;
                         default with it: --only cirque,cirque-before,nginx --workloads ${COMPARED_WORKLOADS.join(',')};
                         every form of cirque has one, such as cirque-default-before
  --rounds N             measurements of each contender and workload (default 5)
  --latency-rounds N     the same for the workload \`latency\` (default 7)
  --seconds S            length of one measurement (default 4)
  --quick                2 rounds of 1 second: shows that everything works, not how fast it is
  --rate-fraction F      offered rate of \`latency\`: part of the slowest capacity among cirque, nginx, haproxy (default 0.5)
  --connections N        connections that \`idle\` opens (default 4000)
  --cirque FORM          supervised (default) or in-process
  --json FILE            writes every measurement and the summary
  --profile              CPU profile of the Cirque worker instead of a comparison (default workload: small)
  --perf                 the same with Linux perf, for the contenders of --only (default: cirque)
  --parts                nanoseconds of single parts (parser, header map, pool, selection) instead of whole proxies
  --proxy-core N         core of the proxies (default 0)
  --load-core N          core of the origin and the load generator (default 1)
  --help
`

/** A usage error: the message names the option and what would do. */
export class UsageError extends Error {}

function list(text: string): string[] {
  return text.split(',').map((part) => part.trim()).filter((part) => part !== '')
}

function positive(name: string, text: string | undefined, fallback: number, whole: boolean): number {
  if (text === undefined) return fallback
  const value = Number(text)
  const wrong = !(value > 0) || (whole && !Number.isInteger(value))
  if (wrong) throw new UsageError(`--${name} is ${text}; use a positive ${whole ? 'whole ' : ''}number`)
  return value
}

function core(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback
  if (!/^\d+$/.test(text)) throw new UsageError(`--${name} is ${text}; use the number of a core`)
  return Number(text)
}

function defaultWorkloads({ comparing, profiling }: { comparing: boolean; profiling: boolean }): readonly string[] {
  if (profiling) return ['small']
  return comparing ? COMPARED_WORKLOADS : ROW_NAMES
}

/** Both checkouts with what they are held against: told the same things, and in the forms that single rows need. */
function comparedWith(rows: readonly string[]): readonly string[] {
  const named = [...WORKLOADS, ...TRIALS].filter(({ name }) => rows.includes(name)).flatMap(({ contenders }) => contenders ?? [])
  const all = [AFTER, 'nginx', ...named]
  return [...new Set(all.flatMap((name) => (name.startsWith(AFTER) ? [name, `${name}${BEFORE_SUFFIX}`] : [name])))]
}

/** @returns null when help was asked for. */
export function parseOptions(args: readonly string[]): BenchOptions | null {
  let values: ReturnType<typeof parse>['values']
  try {
    values = parse(args).values
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
  if (values.help === true) return null
  const quick = values.quick === true
  const profile = values.profile === true
  const perf = values.perf === true
  const idleConnections = positive('connections', values.connections, 4000, true)
  const names = values.workloads === undefined ? null : list(values.workloads)
  for (const name of names ?? []) {
    if (!ROW_NAMES.includes(name)) throw new UsageError(`--workloads has ${name}; use some of ${ROW_NAMES.join(', ')}`)
  }
  const against = values.against ?? null
  if (against !== null && values.parts === true) throw new UsageError('--parts measures this checkout alone; leave --against out')
  const only = values.only === undefined ? null : list(values.only)
  const comparing = against !== null && !profile && !perf
  if (comparing && only !== null && !canCompare(only)) {
    throw new UsageError(`--against compares ${AFTER} with ${BEFORE}; name both in --only, or leave --only out`)
  }
  const chosen = names ?? defaultWorkloads({ comparing, profiling: profile || perf })
  const trials = profile || perf ? [] : TRIALS.filter(({ name }) => chosen.includes(name))
  const form = values.cirque ?? 'supervised'
  if (form !== 'supervised' && form !== 'in-process') throw new UsageError(`--cirque is ${form}; use supervised or in-process`)
  const rateFraction = positive('rate-fraction', values['rate-fraction'], 0.5, false)
  if (rateFraction >= 1) throw new UsageError(`--rate-fraction is ${rateFraction}; use a number between 0 and 1`)
  return {
    only: only ?? (comparing ? comparedWith(chosen) : null),
    workloads: WORKLOADS.filter((workload) => chosen.includes(workload.name))
      .map((workload) => (workload.kind === 'idle' ? { ...workload, connections: idleConnections } : workload)),
    trials,
    rounds: positive('rounds', values.rounds, quick ? 2 : 5, true),
    latencyRounds: positive('latency-rounds', values['latency-rounds'], quick ? 2 : 7, true),
    seconds: positive('seconds', values.seconds, quick ? 1 : 4, true),
    warmUpSeconds: quick ? 1 : 2,
    rateFraction,
    form,
    against,
    json: values.json ?? null,
    profile,
    perf,
    parts: values.parts === true,
    proxyCore: core('proxy-core', values['proxy-core'], 0),
    loadCore: core('load-core', values['load-core'], 1),
  }
}

function parse(args: readonly string[]) {
  return parseArgs({
    args: [...args],
    options: {
      only: { type: 'string' },
      workloads: { type: 'string' },
      rounds: { type: 'string' },
      'latency-rounds': { type: 'string' },
      seconds: { type: 'string' },
      quick: { type: 'boolean' },
      'rate-fraction': { type: 'string' },
      connections: { type: 'string' },
      cirque: { type: 'string' },
      against: { type: 'string' },
      json: { type: 'string' },
      profile: { type: 'boolean' },
      perf: { type: 'boolean' },
      parts: { type: 'boolean' },
      'proxy-core': { type: 'string' },
      'load-core': { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
}
