/**
 * Rules and dashboard of scripts/observability against the table of metrics: what they name is there, with the labels that they ask
 * for, and what is there is looked at. What the rules do is tested by promtool (cirque.rules.test.yml).
 */
import assert from 'node:assert/strict'
import { spawnSync, type SpawnSyncReturns } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { CONFIG_KEYS } from '../../src/config/server-config.ts'
import { ERROR_KINDS } from '../../src/errors/proxy-error.ts'
import { COUNT_METRICS, PROCESS_METRICS, SUPERVISOR_METRICS, TRAFFIC_METRICS, type MetricRow } from '../../src/ipc/metric-table.ts'
import { requireProgram } from '../support/programs.ts'

const FOLDER = path.resolve(import.meta.dirname, '../../scripts/observability')
const RULES = 'cirque.rules.yml', RULE_TESTS = 'cirque.rules.test.yml', DASHBOARD = 'cirque.dashboard.json'

/** What neither a rule nor a panel looks at, and why not. */
const NOT_USED: Readonly<Record<string, string>> = {}

interface Rule {
  readonly alert?: string
  readonly record?: string
  readonly expr: string
  readonly for?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
}
interface Target { readonly expr: string; readonly refId: string }
interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly description?: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets?: readonly Target[]
}
interface Dashboard {
  readonly schemaVersion: number
  readonly uid: string
  readonly panels: readonly Panel[]
  readonly annotations: { readonly list: readonly { readonly expr: string }[] }
  readonly templating: { readonly list: readonly { readonly name: string; readonly query: string | { readonly query: string } }[] }
}

function read(file: string): string { return fs.readFileSync(path.join(FOLDER, file), 'utf8') }

const rules = (parse(read(RULES)) as { groups: { rules: Rule[] }[] }).groups.flatMap(group => group.rules)
const alerts = rules.filter(rule => rule.alert !== undefined)
const dashboard = JSON.parse(read(DASHBOARD)) as Dashboard

const FAMILIES = new Map<string, MetricRow>([
  ...[TRAFFIC_METRICS, PROCESS_METRICS, SUPERVISOR_METRICS].flatMap(table => Object.entries<MetricRow>(table)),
  ...COUNT_METRICS.map(metric => [metric.name, metric] as const),
])
/** Values of labels that are closed lists, by name of the metric. */
const VALUES = new Map(COUNT_METRICS.map(({ name, counts }) => [name, new Set(Object.values(counts))]))
/** Of every series, from whoever scrapes it. */
const OF_SCRAPES = ['job', 'instance']

/** The family of a series that an expression names, and the labels that it has. */
function seriesNamed(name: string): { readonly family: string; readonly labels: readonly string[] } | null {
  const own = FAMILIES.get(name)
  if (own !== undefined && own.kind !== 'histogram') return { family: name, labels: [...own.labels, ...OF_SCRAPES] }
  const family = name.replace(/_(bucket|sum|count)$/, '')
  const histogram = FAMILIES.get(family)
  if (family === name || histogram?.kind !== 'histogram') return null
  return { family, labels: [...histogram.labels, ...OF_SCRAPES, ...name.endsWith('_bucket') ? ['le'] : []] }
}

/** What is wrong with the names of an expression; families that it looks at are added to `used`. */
function faultsOf(expr: string, used: Set<string>): string[] {
  const faults: string[] = []
  const recorded = new Set(rules.map(rule => rule.record))
  const known = new Set(OF_SCRAPES)
  // Texts hold no names; what stands in braces behind a name belongs to it.
  for (const [, name = '', , selector = ''] of expr.matchAll(/([a-zA-Z_:][\w:]*)(\s*\{([^}]*)\})?/g)) {
    if (name.includes(':')) {
      if (!recorded.has(name)) faults.push(`there is no recording rule ${name}`)
      for (const label of ['listener', 'upstream', 'slot', 'le']) known.add(label)
      continue
    }
    if (!/^(cirque|http_server|http_client|process|nodejs)_/.test(name)) continue
    // A label, where labels are named.
    if ([...FAMILIES.values()].some(({ labels }) => labels.includes(name))) continue
    const series = seriesNamed(name)
    if (series === null) { faults.push(`there is no series ${name}`); continue }
    used.add(series.family)
    for (const label of series.labels) known.add(label)
    for (const [, label = '', operator, value = ''] of selector.matchAll(/(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"/g)) {
      if (!series.labels.includes(label)) faults.push(`${name} has no label ${label}`)
      const values = VALUES.get(series.family)
      if (values !== undefined && operator === '=' && !OF_SCRAPES.includes(label) && !values.has(value)) {
        faults.push(`${name} has no ${label} ${value}`)
      }
    }
  }
  for (const [, labels = ''] of expr.matchAll(/\b(?:by|on)\s*\(([^)]*)\)/g)) {
    for (const label of labels.split(',').map(part => part.trim())) if (!known.has(label)) faults.push(`nothing in it has a label ${label}`)
  }
  return faults.map(fault => `${fault}: ${expr}`)
}

const VARIABLES = new Map(dashboard.templating.list.map(({ name, query }) => [name, typeof query === 'string' ? query : query.query]))

function dashboardExpressions(): string[] {
  const panels = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
  const queries = [...VARIABLES].filter(([name]) => name !== 'datasource').map(([, query]) => query)
  const variables = queries.map(query => query.replace(/^label_values\((.*), (\w+)\)$/, 'max by ($2) ($1)'))
  return [...panels, ...variables, ...dashboard.annotations.list.map(({ expr }) => expr)]
}

test('observability: every name and label of rules and dashboard is in the table of metrics, and every metric is looked at', () => {
  const used = new Set<string>()
  const faults = [...rules.map(({ expr }) => expr), ...dashboardExpressions()].flatMap(expr => faultsOf(expr, used))
  assert.deepEqual(faults, [])
  const missing = [...FAMILIES.keys()].filter(name => !used.has(name) && !Object.hasOwn(NOT_USED, name))
  assert.deepEqual(missing, [], 'give them a panel or an alert, or a reason in NOT_USED')
  for (const name of Object.keys(NOT_USED)) assert.ok(FAMILIES.has(name) && !used.has(name), `${name} needs no reason`)
})

test('observability: the check of names finds wrong ones', () => {
  const wrong = {
    'rate(cirque_request_total[5m])': /no series cirque_request_total/,
    'sum(http_server_request_duration_seconds)': /no series http_server_request_duration_seconds/,
    'cirque_requests_total{route="a"}': /has no label route/,
    'sum by (route) (cirque_requests_total)': /nothing in it has a label route/,
    'cirque_own_faults_total{source="cirque"}': /has no source cirque/,
    'sum(cirque_connections{le="1"})': /has no label le/,
    'job:nothing:rate5m': /no recording rule/,
  }
  for (const [expr, fault] of Object.entries(wrong)) assert.match(faultsOf(expr, new Set()).join('\n'), fault)
})

test('observability: each alert says how bad it is, what there is, and what to do about it, in words that exist', () => {
  const names = alerts.map(({ alert }) => alert)
  assert.equal(new Set(names).size, names.length)
  const keys = new Set(CONFIG_KEYS.map(({ key }) => key))
  for (const { alert, labels, annotations } of alerts) {
    assert.match(alert ?? '', /^Cirque[A-Z]/)
    const severity = labels?.['severity'] ?? ''
    assert.ok(['page', 'ticket', 'info'].includes(severity), `${alert}: ${severity}`)
    const { summary = '', description = '' } = annotations ?? {}
    assert.ok(summary.length > 20 && summary.includes('{{ $labels.'), `${alert}: ${summary}`)
    assert.ok(description.length > 60 && description.trim().endsWith('.'), `${alert}: ${description}`)
    for (const [key] of description.matchAll(/(?<![\w/-])(?:limits|drain|log|supervisor|restart|upgrade)\.[a-z]\w+/g)) {
      assert.ok(keys.has(key), `${alert}: there is no option ${key}`)
    }
    for (const [kind] of description.matchAll(/\b[A-Z]+_[A-Z_]+\b/g)) {
      assert.ok((ERROR_KINDS as readonly string[]).includes(kind), `${alert}: there is no error kind ${kind}`)
    }
    for (const [name] of description.matchAll(/\b(?:cirque|http_client|http_server)_\w+/g)) {
      assert.ok(FAMILIES.has(name) || seriesNamed(name) !== null, `${alert}: there is no metric ${name}`)
    }
    for (const [page] of description.matchAll(/docs\/[\w-]+\.md/g)) {
      assert.ok(fs.existsSync(path.resolve(FOLDER, '../..', page)), `${alert}: there is no ${page}`)
    }
  }
})

test('observability: every alert fires in a test of the rules', () => {
  const tests = read(RULE_TESTS)
  for (const { alert } of alerts) assert.ok(tests.includes(`alertname="${alert}"`), `${alert} is in no test of ${RULE_TESTS}`)
})

test('observability: promtool has nothing to say of the rules, and their tests pass', t => {
  const promtool = requireProgram(t, 'promtool')
  if (promtool === null) return
  const orders: readonly string[][] = [['check', 'rules', RULES], ['test', 'rules', RULE_TESTS]]
  for (const args of orders) {
    const ended: SpawnSyncReturns<string> = spawnSync(promtool, args, { cwd: FOLDER, encoding: 'utf8', timeout: 60_000 })
    assert.equal(ended.status, 0, `promtool ${args.join(' ')}\n${ended.stdout}${ended.stderr}`)
    assert.match(ended.stdout, /SUCCESS/)
  }
})

test('observability: the dashboard is one that Grafana 11 opens, with panels that do not lie on each other', () => {
  assert.ok(dashboard.schemaVersion >= 39)
  assert.deepEqual([...VARIABLES.keys()], ['datasource', 'job', 'instance', 'listener', 'upstream'])
  const ids = dashboard.panels.map(({ id }) => id)
  assert.equal(new Set(ids).size, ids.length)
  assert.deepEqual(dashboard.panels.filter(({ type }) => type === 'row').map(({ title }) => title), [
    'Now', 'Traffic', 'Errors', 'Latency', 'Upstreams', 'Connections and limits', 'Workers', 'Operations',
  ])
  const taken = new Set<string>()
  for (const { title, type, description = '', gridPos: { x, y, w, h }, targets = [] } of dashboard.panels) {
    assert.ok(x + w <= 24, title)
    for (let column = x; column < x + w; column++) {
      for (let row = y; row < y + h; row++) {
        assert.ok(!taken.has(`${column} ${row}`), `${title} lies on another panel`)
        taken.add(`${column} ${row}`)
      }
    }
    if (type === 'row') continue
    assert.ok(description.length > 10 && targets.length > 0, title)
    assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title)
    for (const { expr } of targets) {
      for (const [, name = ''] of expr.matchAll(/\$(\w+)/g)) {
        assert.ok(VARIABLES.has(name) || name === '__rate_interval', `${title}: there is no variable ${name}`)
      }
    }
  }
})
