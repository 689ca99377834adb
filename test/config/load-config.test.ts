import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import fc from 'fast-check'
import { variableName } from '../../src/config/environment.ts'
import { LIMIT_DEFAULTS } from '../../src/config/limit-options.ts'
import { flagName, loadConfig, MAX_CONFIG_BYTES, type ConfigSources } from '../../src/config/load-config.ts'
import { LOG_DEFAULTS } from '../../src/config/log-options.ts'
import { isDsn, SENTRY_DEFAULTS } from '../../src/config/sentry-options.ts'
import { CONFIG_KEYS, ConfigError, SECTIONS, type ConfigMistake } from '../../src/config/server-config.ts'
import { resolveSupervisorOptions } from '../../src/config/supervisor-options.ts'
import { TLS_DEFAULTS } from '../../src/config/tls-options.ts'
import { TRACES_DEFAULTS } from '../../src/config/traces-options.ts'
import { overridesFor, unknownListeners } from '../../src/config/worker-settings.ts'
import { writtenKey, writtenValue } from '../../src/config/written-options.ts'
import {
  givenCertificates, TLS_LISTENER_DEFAULTS, type ResolvedTlsListenerOptions,
} from '../../src/listener/tls-listener-options.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

/** Loads `text` as cirque.yaml, with nothing from this process's environment. */
function load(t: TestContext, text: string | Buffer, sources: ConfigSources = {}): ReturnType<typeof loadConfig> {
  const folder = temporaryFolder(t)
  writeFileSync(path.join(folder, 'cirque.yaml'), text)
  return loadConfig({ folder, env: {}, ...sources })
}

function mistakesIn(t: TestContext, text: string | Buffer, sources: ConfigSources = {}): readonly ConfigMistake[] {
  try {
    load(t, text, sources)
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error))
    return error.mistakes
  }
  return []
}

function messageFor(t: TestContext, text: string | Buffer, sources: ConfigSources = {}): string {
  try {
    load(t, text, sources)
  } catch (error) {
    return (error as Error).message
  }
  return 'no mistake'
}

test('config: without any source every default holds', t => {
  const config = loadConfig({ folder: temporaryFolder(t), env: {} })
  const supervisor = resolveSupervisorOptions()
  const defaults = { log: LOG_DEFAULTS, traces: {}, tls: TLS_DEFAULTS, limits: {}, listeners: {}, sentry: SENTRY_DEFAULTS }
  assert.deepEqual(config, { file: '', supervisor, ...defaults })
})

test('config: every default of the documentation, written down, resolves to itself', t => {
  const lines = SECTIONS.flatMap(({ name, table }) => [
    `${name}:`,
    ...Object.entries(table).map(([field, option]) => `  ${writtenKey(field, option)}: ${writtenValue(option, option.default)}`),
  ])
  const { logAt, ...written } = load(t, lines.join('\n'))
  assert.ok(logAt!['log.level']!.startsWith('cirque.yaml:'))
  // Of limits and traces only what is said travels on, as the application, or a variable of OpenTelemetry, may have chosen others.
  const unsaid = loadConfig({ folder: temporaryFolder(t), env: {} })
  assert.deepEqual({ ...written, file: '' }, { ...unsaid, limits: LIMIT_DEFAULTS, traces: TRACES_DEFAULTS })
})

test('config: the result is plain data and frozen to its leaves', t => {
  const config = load(t, 'drain: { hardDrain: 20s }\nlisteners: { "*": { maxHead: 64KiB } }')
  assert.deepEqual(JSON.parse(JSON.stringify(config)), config)
  for (const part of [config, config.supervisor, config.supervisor.drain, config.log, config.listeners, config.listeners['*']]) {
    assert.ok(Object.isFrozen(part))
  }
  assert.equal(config.supervisor.drain.hardDrainMs, 20_000)
  assert.deepEqual(config.listeners, { '*': { maxHeadBytes: 65_536 } })
})

test('config: flags count over the environment, the environment over the file', t => {
  const file = 'supervisor: { workers: 1, heartbeat: 700ms }\ndrain: { hardDrain: 10s, idleDrain: 1s }\nlog: { level: error }'
  const config = load(t, file, {
    env: { CIRQUE_SUPERVISOR_WORKERS: '2', CIRQUE_DRAIN_HARD_DRAIN: '20s', CIRQUE_LOG_LEVEL: '', CIRQUE_FDS: '4=x', OTHER: '1' },
    flags: { 'supervisor.workers': '3', 'log.format': undefined },
  })
  assert.equal(config.supervisor.workers, 3)
  assert.equal(config.supervisor.drain.hardDrainMs, 20_000)
  assert.equal(config.supervisor.drain.idleDrainMs, 1000)
  assert.equal(config.log.level, 'error', 'an empty variable counts as not set')
})

test('config: a list is one in the file, and a text with commas in the environment and in flags', t => {
  const said = 'traces: { propagate: [b3, w3c], ratio: 0.5 }'
  assert.deepEqual(load(t, said).traces, { propagate: ['b3', 'w3c'], ratio: 0.5 })
  assert.deepEqual(load(t, said, { env: { CIRQUE_TRACES_PROPAGATE: 'w3c, b3multi' } }).traces.propagate, ['w3c', 'b3multi'])
  assert.deepEqual(load(t, said, { flags: { 'traces.propagate': 'w3c' } }).traces.propagate, ['w3c'])
  for (const [propagate, env] of [['[jaeger]', ''], ['w3c;b3', ''], ['3', ''], ['[w3c, [b3]]', ''], ['w3c', 'w3c,x']] as const) {
    assert.throws(() => load(t, `traces: { propagate: ${propagate} }`, { env: { CIRQUE_TRACES_PROPAGATE: env } }), (error: unknown) => {
      const [mistake, ...more] = (error as ConfigError).mistakes
      assert.deepEqual([mistake!.path, more], ['traces.propagate', []])
      assert.match(mistake!.expected, /^w3c, b3, b3multi only|^a list of w3c, b3, b3multi/)
      return true
    })
  }
})

test('config: where each key about logs stands is kept, for what only shows later', t => {
  const { logAt } = load(t, 'log:\n  access: /a.log\n  process: /p.log\n', {
    env: { CIRQUE_LOG_PROCESS: '/q.log' }, flags: { 'log.format': 'json' },
  })
  assert.deepEqual(logAt, { 'log.access': 'cirque.yaml:2:11', 'log.process': 'CIRQUE_LOG_PROCESS', 'log.format': '--log-format' })
  assert.equal(load(t, 'log: {}').logAt, undefined)
})

test('config: for every key the last source that says something wins', t => {
  const keys = CONFIG_KEYS
    .filter(({ field }) => field.endsWith('Ms') && !field.includes('Silence') && !['heartbeatMs', 'backoffMs'].includes(field))
    .map(({ key }) => key)
    .filter(key => !key.startsWith('listeners.'))
  const seconds = fc.option(fc.integer({ min: 60, max: 99 }), { nil: null })
  const folder = temporaryFolder(t)
  const file = path.join(folder, 'cirque.yaml')
  fc.assert(fc.property(fc.constantFrom(...keys), seconds, seconds, seconds, (key, inFile, inEnv, inFlags) => {
    const [section = '', name = ''] = key.split('.')
    writeFileSync(file, inFile === null ? '' : `${section}: { ${name}: ${inFile}s }`)
    const config = loadConfig({
      folder, env: inEnv === null ? {} : { [variableName(key)]: `${inEnv}s` }, flags: inFlags === null ? {} : { [key]: `${inFlags}s` },
    })
    const isTop = section === 'supervisor' || section === 'tls' || section === 'limits' || section === 'log' || section === 'sentry'
    const from = isTop ? config[section] : config.supervisor[section as 'drain' | 'restart']
    const last = inFlags ?? inEnv ?? inFile
    if (last !== null) {
      assert.equal(
        (from as unknown as Record<string, number>)[`${name}Ms`] ?? (from as { backoffMsMax?: number }).backoffMsMax,
        last * 1000,
      )
    }
  }), { numRuns: 200 })
})

test('config: names of flags and variables follow from the key', () => {
  assert.equal(flagName('supervisor.stateDir'), '--state-dir')
  assert.equal(flagName('log.access'), '--log-access')
  assert.equal(variableName('drain.webSocketDrain'), 'CIRQUE_DRAIN_WEB_SOCKET_DRAIN')
})

test('config: a file that is named must be there, the usual one may be missing', t => {
  const folder = temporaryFolder(t)
  assert.equal(loadConfig({ folder, env: {} }).file, '')
  assert.throws(() => loadConfig({ folder, env: {}, file: 'other.yaml' }), {
    name: 'ConfigError',
    message: `other.yaml: found no such file; expected a file at ${folder}/other.yaml; name another with -c, or leave -c out`,
  })
  writeFileSync(path.join(folder, 'other.yaml'), 'log: { level: warn }')
  const config = loadConfig({ folder, env: {}, file: 'other.yaml' })
  assert.equal(config.file, path.join(folder, 'other.yaml'))
  assert.equal(config.log.level, 'warn')
  assert.throws(() => loadConfig({ folder, env: {}, file: '.' }), { message: '.: found no regular file; expected a YAML file' })
})

test('config: a path is relative to where it is written', t => {
  const folder = temporaryFolder(t)
  mkdirSync(path.join(folder, 'etc'))
  writeFileSync(path.join(folder, 'etc/edge.yaml'), 'supervisor: { stateDir: run }\nlog: { access: logs/access.log, process: stderr }')
  const config = loadConfig({ folder, file: 'etc/edge.yaml', env: { CIRQUE_LOG_PROCESS: 'process.log' } })
  assert.equal(config.supervisor.stateDir, path.join(folder, 'etc/run'))
  assert.equal(config.log.access, path.join(folder, 'etc/logs/access.log'))
  assert.equal(config.log.process, path.join(folder, 'process.log'))
  assert.equal(loadConfig({ folder, env: {}, flags: { 'log.access': 'off' } }).log.access, 'off')
})

test('config: all mistakes of all sources come at once, in order, with their places', t => {
  const text = [
    'version: 2', 'supervisor:', '  workers: 0', '  heartbeet: 1s', '  heartbeat: 30', 'drain:', '  hardDrainMs: 300',
    '  idleDrain: -1s', 'limits: 4',
    'log: { level: loud }', 'listeners:', '  "*": { maxHead: 64, allowConnect: perhaps }',
    'restart: { backoffJitter: 2, maxStartDeaths: 1.5 }', 'foo: [1]',
  ].join('\n')
  assert.equal(messageFor(t, text, {
    env: { CIRQUE_DRAIN_HARD: '3', CIRQUE_DRIAN_HARD_DRAIN: '3s', CIRQUE_DRAIN_HARD_DRAIN: '3' },
    flags: { 'supervisor.workers': 'x', 'log.acess': 'off', 'log.maxLogQueue': '1B' },
  }), [
    'cirque.yaml:1:10: version: found 2; expected 1, the only version of this format',
    'cirque.yaml:3:12: supervisor.workers: found 0; expected auto, or a whole number from 1 to 256',
    'cirque.yaml:4:3: supervisor.heartbeet: found an unknown key; expected heartbeat',
    'cirque.yaml:5:14: supervisor.heartbeat: found 30; expected a duration with a unit (ms, s, m, h, d) of at least 10ms, such as 500ms',
    'cirque.yaml:7:3: drain.hardDrainMs: found an unknown key; expected hardDrain, whose value has the unit, such as 300s',
    'cirque.yaml:8:14: drain.idleDrain: found "-1s"; expected a duration with a unit (ms, s, m, h, d) such as 30s, or 0',
    'cirque.yaml:9:9: limits: found 4; expected a section with keys',
    'cirque.yaml:10:15: log.level: found "loud"; expected one of debug, info, warn, error',
    'cirque.yaml:12:19: listeners.*.maxHead: found 64; '
      + 'expected a size with a unit (B, kB, MB, GB, KiB, MiB, GiB) of at least 1KiB, such as 32KiB',
    'cirque.yaml:12:37: listeners.*.allowConnect: found "perhaps"; expected true or false',
    'cirque.yaml:13:27: restart.backoffJitter: found 2; expected a number from 0 to 1',
    'cirque.yaml:13:46: restart.maxStartDeaths: found 1.5; expected a whole number from 1 to 2147483647',
    `cirque.yaml:14:1: foo: found an unknown key; expected one of version, listeners, ${SECTIONS.map(({ name }) => name).join(', ')}`,
    'CIRQUE_DRAIN_HARD: found a variable that sets nothing; expected CIRQUE_DRAIN_HARD_DRAIN',
    'CIRQUE_DRIAN_HARD_DRAIN: found a variable that sets nothing; expected CIRQUE_DRAIN_HARD_DRAIN',
    'CIRQUE_DRAIN_HARD_DRAIN: drain.hardDrain: found "3"; expected a duration with a unit (ms, s, m, h, d) such as 300s, or 0',
    '--log-acess: found a flag for log.acess, which is no key; expected log.access',
    '--workers: supervisor.workers: found "x"; expected auto, or a whole number from 1 to 256',
    '--log-max-log-queue: log.maxLogQueue: found "1B"; '
      + 'expected a size with a unit (B, kB, MB, GB, KiB, MiB, GiB) of at least 64KiB, such as 8MiB',
  ].join('\n'))
})

test('config: a key in no section, or in another one than its own, is told where it belongs', t => {
  for (const [text, remedy] of [
    ['workers: 4', 'supervisor.workers'],
    ['workerss: 4', 'supervisor.workers'],
    ['hardDrain: 30s', 'drain.hardDrain'],
    ['hardDrainMs: 30_000', 'drain.hardDrain'],
    ['maxHead: 64KiB', 'listeners.*.maxHead'],
    ['supervisor: { access: off }', 'log.access'],
    ['log: { workers: 4 }', 'supervisor.workers'],
    ['listeners: { "*": { maxActiveRequests: 4 } }', 'limits.maxActiveRequests'],
    ['supervisors: {}', 'supervisor'],
  ] as const) assert.deepEqual(mistakesIn(t, text).map(({ expected }) => expected), [remedy], text)
})

test('config: values that do not go together are blamed on the one that was said', t => {
  assert.deepEqual(mistakesIn(t, 'supervisor:\n  abortAfterSilence: 400ms'), [
    {
      path: 'supervisor.abortAfterSilence', found: '400ms', expected: 'at least supervisor.heartbeat, which is 500ms',
      where: 'cirque.yaml:2:22',
    },
  ])
  assert.deepEqual(mistakesIn(t, '', { env: { CIRQUE_RESTART_BACKOFF: '31s' } }), [
    { path: 'restart.backoff', found: '31s', expected: 'at most restart.backoffMax, which is 30s', where: 'CIRQUE_RESTART_BACKOFF' },
  ])
  assert.deepEqual(
    mistakesIn(t, '', { flags: { 'supervisor.heartbeat': '4s' } }).map(({ path: key, where }) => [key, where]),
    [['supervisor.heartbeat', '--heartbeat']],
  )
})

test('config: what is no YAML is named with its place', t => {
  assert.equal(messageFor(t, 'log: "x'), 'cirque.yaml:1:8: found Missing closing "quote; expected valid YAML 1.2')
  assert.equal(
    messageFor(t, 'log:\n  level: info\nlog: { level: warn }'),
    'cirque.yaml:3:1: found the key "log" for the second time; expected every key once',
  )
  assert.match(messageFor(t, 'log: !!js/function x'), /^cirque\.yaml:1:6: found Unresolved tag/)
  assert.match(messageFor(t, 'a: 1\n---\nb: 2'), /^cirque\.yaml:2:1: found Source contains multiple documents/)
  assert.equal(messageFor(t, '- 1'), 'cirque.yaml:1:1: found a list; expected sections such as supervisor, drain and log')
  assert.equal(messageFor(t, 'log:\n  level:'), 'cirque.yaml:2:9: log.level: found nothing; expected one of debug, info, warn, error')
  assert.equal(messageFor(t, Buffer.from([0xFF, 0xFE, 0x41])), 'cirque.yaml: found bytes that are no UTF-8; expected YAML in UTF-8')
})

test('config: a file without content sets nothing', t => {
  for (const text of ['', '\n', '# only a comment\n', '---\n', '{}']) assert.deepEqual(mistakesIn(t, text), [], JSON.stringify(text))
})

test('config: size, aliases and depth of the file are limited', t => {
  assert.equal(messageFor(t, 'x'.repeat(MAX_CONFIG_BYTES + 1)), 'cirque.yaml: found 4194305 bytes; expected at most 4194304 bytes')
  const aliases = (count: number): string => `x: &a 1\n${Array.from({ length: count }, (_, index) => `k${index}: *a`).join('\n')}`
  assert.equal(messageFor(t, aliases(101)), 'cirque.yaml: found 101 aliases; expected at most 100 aliases')
  assert.match(messageFor(t, aliases(100)), /found an unknown key/)
  const bomb = 'a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c]'
  assert.match(messageFor(t, bomb), /expected aliases that stand for at most 100 nodes$/)
  assert.equal(
    messageFor(t, `a: ${'['.repeat(20)}${']'.repeat(20)}`),
    'cirque.yaml:1:19: found more than 16 levels; expected at most 16 levels',
  )
  assert.equal(
    messageFor(t, `${'{a: '.repeat(20)}${'}'.repeat(20)}`),
    'cirque.yaml:1:65: found more than 16 levels; expected at most 16 levels',
  )
  assert.match(messageFor(t, '['.repeat(100_000)), /^cirque\.yaml:/)
})

test('config: a file full of mistakes says how many more there are', t => {
  const mistakes = mistakesIn(t, Array.from({ length: 50_000 }, (_, index) => `key${index}: 1`).join('\n'))
  assert.equal(mistakes.length, 101)
  assert.equal(mistakes.at(-1)?.found, '1 more mistakes')
})

test('config: names of object prototypes are keys like any other', t => {
  for (const name of ['__proto__', 'constructor', 'toString']) {
    assert.equal(mistakesIn(t, `${name}: { a: 1 }`)[0]?.path, name)
    assert.equal(mistakesIn(t, `log: { ${name}: 1 }`)[0]?.path, `log.${name}`)
  }
  assert.equal(({} as { a?: number }).a, undefined)
})

test('config: found values are shown on one line without control characters', t => {
  const message = messageFor(t, 'log:\n  level: "a\\e[31m\\u009b\\r\\n' + 'x'.repeat(200) + '"')
  assert.match(message, /^cirque\.yaml:2:10: log\.level: found "a\\u001b\[31m\\u009b\\r\\nx+\.\.\."; expected one of/)
  assert.ok(![...message].some(char => char < ' ' || (char >= '\x7F' && char <= '\x9F')))
})

test('config: text that would break a line of a protocol or a log is refused', t => {
  assert.match(
    messageFor(t, 'supervisor: { user: "a\\nb" }'),
    /user: found "a\\nb"; expected a user, by name or number, without control characters$/,
  )
})

test('config: whatever the schema lets through, the supervisor accepts', t => {
  const folder = temporaryFolder(t)
  const samples = [
    '0', '1', '3', '256', '257', '0.5', '1.5', 'auto', 'keep', 'drain-after', 'info', 'x', '5ms', '10ms', '1s', '24d',
    '25d', '1B', '1KiB', '4MiB', 'true', '\'\'',
  ]
  const keys = CONFIG_KEYS.map(({ key }) => key).filter(key => !key.startsWith('listeners.'))
  fc.assert(fc.property(fc.dictionary(fc.constantFrom(...keys), fc.constantFrom(...samples), { maxKeys: 4 }), flags => {
    try {
      loadConfig({ folder, env: {}, flags })
    } catch (error) {
      assert.ok(error instanceof ConfigError)
      for (const { where } of error.mistakes) assert.notEqual(where, 'configuration', error.message)
    }
  }), { numRuns: 2000 })
})

test('config: any text is either a configuration or a list of mistakes', t => {
  const folder = temporaryFolder(t)
  const file = path.join(folder, 'cirque.yaml')
  const pieces = fc.constantFrom(
    'log',
    ':',
    ' ',
    '\n',
    '  ',
    '- ',
    '"',
    '\'',
    '{',
    '}',
    '[',
    ']',
    '&a',
    '*a',
    '!!',
    '|',
    '>',
    '#',
    ',',
    '?',
    'level',
    'info',
    '\t',
    '\u0085',
    '\0',
    'listeners',
    '%YAML',
    '---',
  )
  fc.assert(fc.property(fc.array(pieces, { maxLength: 30 }), parts => {
    writeFileSync(file, parts.join(''))
    try {
      loadConfig({ folder, env: {} })
    } catch (error) {
      assert.ok(error instanceof ConfigError, `${JSON.stringify(parts.join(''))}: ${String(error)}`)
      assert.ok(error.mistakes.length > 0)
    }
  }), { numRuns: 1000 })
})

test('config: a listener gets what holds for all, then what holds for it', t => {
  const { listeners } = load(t, 'listeners: { "*": { maxHead: 64KiB, maxUri: 4KiB }, "web/:80": { maxHead: 16KiB, allowConnect: true } }')
  assert.deepEqual(overridesFor(listeners, 'web/:80'), { maxHeadBytes: 16_384, maxUriBytes: 4096, allowConnect: true })
  assert.deepEqual(overridesFor(listeners, 'constructor'), { maxHeadBytes: 65_536, maxUriBytes: 4096 })
  assert.deepEqual(overridesFor(listeners, 'web/:80/v6'), overridesFor(listeners, 'web/:80'))
  assert.deepEqual(unknownListeners(listeners, ['a', 'b']), ['web/:80'])
  assert.deepEqual(unknownListeners(listeners, ['web/:80']), [])
})

test('config: a log may go to syslog, which is no path, and what is written wrong is told with what would do', t => {
  const { log } = load(t, 'log: { access: "syslog:udp:[::1]:514?tag=edge", process: "syslog:unix:/dev/log" }')
  assert.deepEqual([log.access, log.process], ['syslog:udp:[::1]:514?tag=edge', 'syslog:unix:/dev/log'])
  assert.equal(messageFor(t, 'log: { access: "syslog:udp:localhost" }', {}), 'cirque.yaml:1:16: log.access: found "syslog:udp:localhost"; '
    + 'expected host and port, such as syslog:udp:10.0.0.5:514 or syslog:udp:[::1]:514')
})

test('config: a list is a list in the file, and one text with commas in the environment', t => {
  assert.deepEqual(load(t, 'log: { redactQueryKeys: [session, pin] }').log.redactQueryKeys, ['session', 'pin'])
  for (const value of ['session,pin', 'session, pin,', '[session, pin]']) {
    const env = { CIRQUE_LOG_REDACT_QUERY_KEYS: value }
    assert.deepEqual(load(t, '', { env }).log.redactQueryKeys, ['session', 'pin'], value)
  }
  const remedy = 'keys of queries: 1 to 64 characters of ASCII without blank, %, & and ='
  const found = 'cirque.yaml:1:25: log.redactQueryKeys: found a list; expected'
  assert.equal(messageFor(t, 'log: { redactQueryKeys: [a, 1] }', {}), `${found} a list of ${remedy}`)
  assert.equal(messageFor(t, 'log: { redactQueryKeys: ["a=b"] }', {}), `${found} ${remedy} only, not "a=b"`)
})

const DSN = 'https://0123abcd@sentry.example.com/42'
const OTHER_DSN = 'http://key:word@[::1]:9000/self/hosted/7'

test('config: the usual variables of Sentry count less than every source of ours, and off counts as nothing', t => {
  const env = { SENTRY_DSN: DSN, SENTRY_ENVIRONMENT: 'staging', SENTRY_RELEASE: 'shop@1.2' }
  const { sentry } = load(t, '', { env })
  assert.deepEqual([sentry.dsn, sentry.environment, sentry.release], [DSN, 'staging', 'shop@1.2'])
  assert.equal(load(t, `sentry: { dsn: "${OTHER_DSN}" }`, { env }).sentry.dsn, OTHER_DSN)
  assert.equal(load(t, 'sentry: { dsn: "" }', { env }).sentry.dsn, DSN, 'an empty one says nothing')
  assert.equal(load(t, 'sentry: { dsn: off }', { env }).sentry.dsn, '')
  assert.equal(load(t, '', { env: { ...env, CIRQUE_SENTRY_DSN: OTHER_DSN } }).sentry.dsn, OTHER_DSN)
  assert.equal(load(t, '', { env: { SENTRY_DSN: 'off' } }).sentry.dsn, '')
  assert.deepEqual(load(t, '', { env: { SENTRY_DSN: '' } }).sentry, SENTRY_DEFAULTS)
})

test('config: a DSN may stand in a file of its own, which counts more than the usual variable, and not beside another DSN', t => {
  const folder = temporaryFolder(t)
  const file = path.join(folder, 'dsn')
  writeFileSync(file, `${DSN}\n`)
  const says = `sentry: { dsnFile: "${file}" }`
  assert.equal(load(t, says, { env: { SENTRY_DSN: OTHER_DSN } }).sentry.dsn, DSN)
  const both = messageFor(t, `sentry: { dsnFile: "${file}", dsn: "${OTHER_DSN}" }`)
  assert.match(both, /sentry\.dsnFile: found a file beside sentry\.dsn; expected one of/)
  writeFileSync(file, 'secret-word')
  assert.match(messageFor(t, says), /sentry\.dsnFile: found .*dsn, in which there is a value that is not shown; expected a DSN such as/)
  writeFileSync(file, '')
  assert.match(messageFor(t, says), /in which there is nothing/)
  writeFileSync(file, ' '.repeat(10_000))
  assert.match(messageFor(t, says), /dsn, which cannot be read; expected a file with a DSN/)
  assert.match(messageFor(t, `sentry: { dsnFile: "${folder}" }`), /which cannot be read/)
})

test('config: no message shows what may be a DSN', t => {
  const secret = 'https://5ecre7word@sentry.example.com/not-a-project'
  const messages = [
    messageFor(t, `sentry: { dsn: "${secret}" }`), messageFor(t, `sentry: "${secret}"`), messageFor(t, '', { env: { SENTRY_DSN: secret } }),
    messageFor(t, '', { env: { CIRQUE_SENTRY_DSN: secret } }), messageFor(t, `sentry: { dsn: ["${secret}"] }`),
  ]
  for (const message of messages) {
    assert.match(message, /sentry/)
    assert.doesNotMatch(message, /5ecre7word/)
  }
  const wanted = 'a DSN such as https://KEY@HOST/PROJECT, or off'
  assert.equal(messages[0], `cirque.yaml:1:16: sentry.dsn: found a value that is not shown; expected ${wanted}`)
  assert.match(messages[2]!, /^SENTRY_DSN: sentry\.dsn: found/)
  assert.match(messageFor(t, 'sentry: { environment: "a b" }'), /found "a b"; expected a name without blanks/)
})

test('config: what is taken for a DSN is what Sentry\'s library takes, so that it has nothing to print', async () => {
  const { dsnFromString } = await import('@sentry/core')
  for (const good of [DSN, OTHER_DSN, 'http://a@127.0.0.1:80/1', 'https://a:@h/1']) {
    assert.ok(isDsn(good), good)
    assert.match(dsnFromString(good)?.projectId ?? '', /^\d+$/)
  }
  const bad = [
    '', 'x', 'https://h/1', 'https://a@h', 'https://a@h/', 'https://a@h/x', 'ftp://a@h/1',
    'https://a@h:999999/1', 'https://a@h/1?x', ' https://a@h/1',
  ]
  for (const one of bad) assert.ok(!isDsn(one), one)
})

test('configuration: options of TLS lie in a section of their listener, and files are relative to the folder of the file', context => {
  const folder = path.join(temporaryFolder(context), 'with blanks')
  mkdirSync(folder)
  const write = (text: string): void => writeFileSync(path.join(folder, 'cirque.yaml'), text)
  write(`listeners:
  '*': { tls: { handshakeTimeout: 5s, policy: modern } }
  'web/:443': { maxConnections: 7, tls: { policy: intermediate, certificateFiles: ['a.crt a.key', /etc/b.pem], clientCa: [ca.pem] } }
`)
  const { listeners } = loadConfig({ folder, env: {} })
  const { maxConnections, tls: found } = overridesFor(listeners, 'web/:443/v6'), tls = found as unknown as ResolvedTlsListenerOptions
  assert.equal(maxConnections, 7)
  assert.deepEqual({ ...tls, certificateFiles: [] }, {
    handshakeTimeoutMs: 5000, policy: 'intermediate', certificateFiles: [], clientCa: [path.join(folder, 'ca.pem')],
  })
  assert.deepEqual(givenCertificates({ ...TLS_LISTENER_DEFAULTS, ...tls }), [
    { cert: path.join(folder, 'a.crt'), key: path.join(folder, 'a.key') }, { cert: '/etc/b.pem' },
  ])
  write('listeners:\n  web:\n    tls: { polizy: modern }\n')
  const message = /cirque\.yaml:3:12: listeners\.web\.tls\.polizy: found an unknown key; expected policy/
  assert.throws(() => loadConfig({ folder, env: {} }), message)
})
