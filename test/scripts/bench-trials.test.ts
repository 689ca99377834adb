import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sinceBootMs } from '../../scripts/bench/process-usage.ts'
import { ACCESS_FIELDS } from '../../src/telemetry/exporters/access-line.ts'
import { nginxConfig, PLAIN_PLACE } from '../../scripts/bench/contenders.ts'
import { parseAccepted } from '../../scripts/bench/origin.ts'
import { TRIALS } from '../../scripts/bench/trials/list.ts'
import { judgeTrial, trialTable, withUnit, type Trial, type TrialMeasurement } from '../../scripts/bench/trials/trial.ts'

const trial: Trial = {
  name: 'trial',
  title: 'a title',
  contenders: ['cirque-default', 'nginx-log'],
  base: 'nginx-log',
  figures: [
    { name: 'wait', unit: 'ms', bounds: [{ limit: 1.5, of: 'x base', side: 'most', contender: 'cirque-default' }] },
    { name: 'served', unit: '%', bounds: [{ limit: 99, of: 'value', side: 'least', contender: 'cirque-default' }] },
    { name: 'other', unit: '', bounds: [] },
  ],
  measure: () => Promise.resolve({}),
}

function measured(contender: string, round: number, wait: number, served = 100): TrialMeasurement {
  return { trial: 'trial', contender, round, values: { wait, served } }
}

test('bench trials: a bound holds for the median of the values, or of the ratios within rounds', () => {
  const outcomes = (...measurements: TrialMeasurement[]) => judgeTrial(trial, measurements).map(({ outcome }) => outcome)
  const nginx = [measured('nginx-log', 0, 10), measured('nginx-log', 1, 100), measured('nginx-log', 2, 10)]
  assert.deepEqual(outcomes(...nginx, measured('cirque-default', 0, 14), measured('cirque-default', 1, 150)), ['met', 'met'])
  assert.deepEqual(outcomes(...nginx, measured('cirque-default', 0, 16), measured('cirque-default', 1, 160)), ['missed', 'met'])
  assert.deepEqual(outcomes(...nginx, measured('cirque-default', 0, 10, 98.9)), ['met', 'missed'])
  assert.deepEqual(outcomes(...nginx), ['not measured', 'not measured'])
  assert.deepEqual(outcomes(measured('cirque-default', 0, 1)), ['not measured', 'met'])
})

test('bench trials: the table has a line a figure, new beside old, and a dash for what was not measured', () => {
  const table = trialTable(trial, [
    measured('nginx-log', 0, 10), measured('cirque-default', 0, 12), measured('cirque-default-before', 0, 24),
  ])
  const [title, titles, wait = '', , other = ''] = table.split('\n')
  assert.equal(title, 'trial: a title')
  assert.match(titles ?? '', /^ +cirque-default +cirque-default-before +nginx-log +x nginx-log +new \/ old +target$/)
  assert.match(wait, /^wait +12 ms +24 ms +10 ms +1\.20 +0\.50 +<= 1\.5 x$/)
  assert.match(other, /^other +- +- +- +- +- +-$/)
  assert.doesNotMatch(trialTable(trial, [measured('cirque-default', 0, 12)]), /new \/ old/)
})

test('bench trials: every bound is of a figure and a contender that its trial has', () => {
  for (const { contenders, base, figures } of TRIALS) {
    assert.ok(contenders.includes(base))
    for (const { bounds } of figures) for (const { contender } of bounds) assert.ok(contenders.includes(contender))
  }
})

test('bench trials: numbers are read and shown with their units', () => {
  assert.equal(withUnit(12.34, 'ms'), '12.3 ms')
  assert.equal(withUnit(Number.NaN, 'MB'), '-')
  assert.equal(sinceBootMs('12.34 99.10\n'), 12_340)
  const page = 'Active connections: 3 \nserver accepts handled requests\n 16 17 18 \nReading: 0 Writing: 1 Waiting: 2 \n'
  assert.equal(parseAccepted(page), 16)
})

test('bench: nginx with a log writes the fields that Cirque has', () => {
  const config = nginxConfig({ originPort: 1, listenPort: 2, folder: '/folder', ...PLAIN_PLACE }, '', { log: true })
  const format = /log_format fields escape=json '\{(.*)\}';/.exec(config)?.[1] ?? ''
  // Of an application, of samples and of traces, which the bench's lines have none of.
  const left: readonly string[] = ['app', 'w', 'trace_id', 'span_id']
  const written = ACCESS_FIELDS.filter((field) => !left.includes(field))
  assert.deepEqual([...format.matchAll(/"(\w+)":/g)].map((match) => match[1]), written)
})
