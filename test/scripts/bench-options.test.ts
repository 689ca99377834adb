import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HELP, UsageError, parseOptions } from '../../scripts/bench/options.ts'
import { WORKLOADS } from '../../scripts/bench/workloads.ts'

test('bench options: without arguments everything is measured with the supervised Cirque', () => {
  const options = parseOptions([])
  assert.ok(options)
  assert.deepEqual(options.workloads, WORKLOADS)
  assert.equal(options.only, null)
  assert.equal(options.form, 'supervised')
  assert.equal(options.latencyRounds, 7)
})

test('bench options: lists are split, and workloads keep their own order', () => {
  const options = parseOptions(['--only', 'cirque, nginx', '--workloads', 'newconn,small', '--rounds', '3', '--seconds=2'])
  assert.deepEqual(options?.only, ['cirque', 'nginx'])
  assert.deepEqual(options?.workloads.map((workload) => workload.name), ['small', 'newconn'])
  assert.equal(options?.rounds, 3)
  assert.equal(options?.seconds, 2)
})

test('bench options: --quick shortens, and what is said explicitly stays', () => {
  const options = parseOptions(['--quick', '--seconds', '3'])
  assert.equal(options?.rounds, 2)
  assert.equal(options?.seconds, 3)
})

test('bench options: a profile looks at the small workload unless another is named', () => {
  assert.deepEqual(parseOptions(['--profile'])?.workloads.map((workload) => workload.name), ['small'])
  assert.deepEqual(parseOptions(['--profile', '--workloads', '10m'])?.workloads.map((workload) => workload.name), ['10m'])
})

test('bench options: --against runs both checkouts beside nginx, in the workloads that a change may move', () => {
  const options = parseOptions(['--against', '../before'])
  assert.equal(options?.against, '../before')
  assert.deepEqual(options?.only, ['cirque', 'cirque-before', 'nginx'])
  assert.deepEqual(options?.workloads.map((workload) => workload.name), ['small', '100k', '10m', 'conns1000', 'newconn', 'idle'])
  assert.deepEqual(parseOptions(['--against', '../before', '--workloads', 'idle'])?.workloads.map((workload) => workload.name), ['idle'])
})

test('bench options: a comparison needs both, a profile of one of them does not', () => {
  assert.throws(() => parseOptions(['--against', '.', '--only', 'cirque,nginx']), /--against compares cirque with cirque-before; name both/)
  assert.throws(() => parseOptions(['--against', '.', '--parts']), /--parts measures this checkout alone/)
  assert.deepEqual(parseOptions(['--against', '.', '--only', 'cirque-before', '--profile'])?.only, ['cirque-before'])
})

test('bench options: --connections sets how many connections idle', () => {
  assert.equal(parseOptions(['--connections', '200'])?.workloads.find((workload) => workload.kind === 'idle')?.connections, 200)
})

test('bench options: what would not do is refused by name', () => {
  for (const [args, message] of [
    [['--workloads', 'tiny'], /--workloads has tiny/],
    [['--rounds', '0'], /--rounds is 0; use a positive whole number/],
    [['--seconds', '1.5'], /--seconds is 1\.5/],
    [['--rate-fraction', '1'], /--rate-fraction is 1/],
    [['--cirque', 'threaded'], /--cirque is threaded; use supervised or in-process/],
    [['--proxy-core', 'first'], /--proxy-core is first/],
    [['--fast'], /--fast/],
  ] as const) {
    assert.throws(() => parseOptions(args), (error) => error instanceof UsageError && message.test(error.message), args.join(' '))
  }
})

test('bench options: the help names every option that is accepted', () => {
  assert.equal(parseOptions(['--help']), null)
  const names = [
    'only', 'workloads', 'rounds', 'latency-rounds', 'seconds', 'quick', 'rate-fraction', 'connections', 'cirque', 'against',
    'json', 'profile', 'perf', 'parts', 'proxy-core', 'load-core',
  ]
  for (const name of names) {
    assert.ok(HELP.includes(`--${name} `), name)
  }
})
