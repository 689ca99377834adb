import assert from 'node:assert/strict'
import { test } from 'node:test'
import { COMMON_KEYS, readVariable, unknownVariables, variableName } from '../../src/config/environment.ts'

/** What Kubernetes sets for a Service with one port, and for one with a named port. */
function linksOf(service: string): Record<string, string> {
  const name = service.toUpperCase().replaceAll('-', '_')
  const links: Record<string, string> = {
    [`${name}_SERVICE_HOST`]: '10.0.0.1', [`${name}_SERVICE_PORT`]: '80', [`${name}_SERVICE_PORT_HTTP_ADMIN`]: '80',
  }
  for (const protocol of ['tcp', 'udp', 'sctp']) {
    const port = `${name}_PORT_9901_${protocol.toUpperCase()}`, url = `${protocol}://10.0.0.1:9901`
    Object.assign(links, { [`${name}_PORT`]: url, [port]: url })
    Object.assign(links, { [`${port}_PROTO`]: protocol, [`${port}_PORT`]: '9901', [`${port}_ADDR`]: '10.0.0.1' })
  }
  return links
}

test('environment: every key that a variable may set is set by the variable of its name, and by no other', () => {
  for (const key of COMMON_KEYS) assert.deepEqual(readVariable(variableName(key.key), 'x'), { kind: 'key', key })
  assert.equal(new Set(COMMON_KEYS.map(({ key }) => variableName(key))).size, COMMON_KEYS.length)
})

test('environment: what Kubernetes sets for a Service with any name is passed over', () => {
  const keys = COMMON_KEYS.map(({ key }) => variableName(key).toLowerCase().replaceAll('_', '-'))
  for (const service of ['cirque', 'cirque-log', 'cirque-upgrade', 'cirque-admin', 'cirque-node', 'cirque-workers', ...keys]) {
    for (const [name, value] of Object.entries(linksOf(service))) {
      assert.deepEqual(readVariable(name, value), { kind: 'passed-over' }, name)
    }
  }
  // Docker's links have two forms of their own.
  assert.equal(readVariable('CIRQUE_LOG_NAME', '/web/cirque-log').kind, 'passed-over')
  assert.equal(readVariable('CIRQUE_LOG_ENV_LANG', 'C').kind, 'passed-over')
  // And neighbouring ports are told as a range.
  for (const [part, value] of Object.entries({ START: 'tcp://a:80', END: 'tcp://a:81', PORT_START: '80', PORT_END: '81' })) {
    assert.equal(readVariable(`CIRQUE_LOG_PORT_80_TCP_${part}`, value).kind, 'passed-over', part)
  }
})

test('environment: a variable that sets no key has to say what it can say', () => {
  for (const value of ['off', 'on', '']) assert.equal(readVariable('CIRQUE_SYSTEM_CALLS', value).kind, 'passed-over', value)
  for (const value of ['of', 'OFF', '0', 'false']) {
    assert.deepEqual(readVariable('CIRQUE_SYSTEM_CALLS', value), { kind: 'wrong', expected: 'one of on, off' }, value)
  }
  assert.equal(readVariable('CIRQUE_NODE', '/opt/node/bin/node').kind, 'passed-over')
})

test('environment: a value of another form makes a name of that form ours again', () => {
  assert.equal(readVariable('CIRQUE_LOG_PORT', '80').kind, 'misspelt')
  assert.equal(readVariable('CIRQUE_LOG_NAME', 'x').kind, 'misspelt')
})

test('environment: a name that is nearly one of ours is told which', () => {
  for (const [name, remedy] of [
    ['CIRQUE_WORKERS', 'CIRQUE_SUPERVISOR_WORKERS'],
    ['CIRQUE_WORKER', 'CIRQUE_SUPERVISOR_WORKERS'],
    ['CIRQUE_SUPERVISOR_WORKER', 'CIRQUE_SUPERVISOR_WORKERS'],
    ['CIRQUE_STATE_DIR', 'CIRQUE_SUPERVISOR_STATE_DIR'],
    ['CIRQUE_STATEDIR', 'CIRQUE_SUPERVISOR_STATE_DIR'],
    ['CIRQUE_ADMIN_ADDRESS', 'CIRQUE_SUPERVISOR_ADMIN_ADDRESS'],
    ['CIRQUE_ADMIN', 'CIRQUE_SUPERVISOR_ADMIN_ADDRESS'],
    ['CIRQUE_DRIAN_HARD_DRAIN', 'CIRQUE_DRAIN_HARD_DRAIN'],
    ['CIRQUE_LOGLEVEL', 'CIRQUE_LOG_LEVEL'],
    ['CIRQUE_SOAK', 'CIRQUE_UPGRADE_SOAK'],
    ['CIRQUE_NODES', 'CIRQUE_NODE'],
    ['CIRQUE_SYSTEM_CALL', 'CIRQUE_SYSTEM_CALLS'],
    ['CIRQUE_MAX_HEAD', 'listeners.*.maxHead in cirque.yaml, as no variable sets it'],
  ] as const) assert.deepEqual(readVariable(name, '1'), { kind: 'misspelt', remedy }, name)
})

test('environment: a name in one of our sections that is near nothing is told what there is', () => {
  const variable = readVariable('CIRQUE_LOG_COLOURFUL_OUTPUT', '1')
  assert.equal(variable.kind, 'misspelt')
  assert.match((variable as { remedy: string }).remedy, /^one of CIRQUE_LOG_LEVEL, CIRQUE_LOG_FORMAT, /)
})

test('environment: what begins as ours do and is near nothing is known to somebody else, and is named for the log', () => {
  const env = { ...linksOf('cirque-admin'), CIRQUE_ROOT: '/x', CIRQUE_FUZZ_CASES: '3', CIRQUE_NODE: 'node', CIRQUE_EMPTY: '', PATH: '/bin' }
  assert.deepEqual(unknownVariables(env), ['CIRQUE_FUZZ_CASES', 'CIRQUE_ROOT'])
})
