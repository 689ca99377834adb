import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import https from 'node:https'
import net from 'node:net'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import type { LogFields, ProcessLog } from '../../src/ipc/process-log.ts'
import type { Backend } from '../../src/load-balancing/backend.ts'
import { functionDiscovery } from '../../src/load-balancing/discovery.ts'
import {
  HttpHealthCheck, resolveHealthCheckOptions, TcpHealthCheck, type HealthCheck, type HealthCheckOptions,
} from '../../src/load-balancing/health-check.ts'
import { LoadBalancer, type LoadBalancerOptions } from '../../src/load-balancing/load-balancer.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { makeTestCa, selfSigned } from '../support/test-ca.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve))
}

/** A check whose outcomes a test decides, one backend name at a time. */
class ScriptedCheck implements HealthCheck {
  readonly options
  readonly bad = new Set<string>()
  readonly silent = new Set<string>()
  readonly probed: string[] = []
  running = 0
  mostRunning = 0
  closed = false

  constructor(options: HealthCheckOptions = {}) { this.options = resolveHealthCheckOptions({ intervalMs: 1000, ...options }) }

  async probe(backend: Backend): Promise<void> {
    this.probed.push(backend.name)
    this.mostRunning = Math.max(this.mostRunning, ++this.running)
    try {
      if (this.silent.has(backend.name)) await new Promise<never>(() => {})
      await settle()
      if (this.bad.has(backend.name)) throw this.fault
    } finally { this.running-- }
  }

  /** What a bad probe fails with. */
  fault = new Error('bad')

  close(): void { this.closed = true }
}

const ABC = ['10.0.0.1:80', '10.0.0.2:80', '10.0.0.3:80']

async function start(check: HealthCheck, options: LoadBalancerOptions = {}, backends: readonly string[] = ABC) {
  const clock = new FakeClock()
  const events: string[] = []
  const stopping = new AbortController()
  const balancer = LoadBalancer.from(backends, {
    clock, random: () => 0.5, resolver: null, healthCheck: check,
    onHealthChange: (backend, ready, reason) => events.push(`${backend.name} ${ready} ${reason}`), ...options,
  })
  await balancer.asBackgroundService().start(stopping.signal)
  const rounds = async (count: number) => {
    for (let i = 0; i < count; i++) {
      clock.advance(1000)
      for (let j = 0; j < 5; j++) await settle()
    }
  }
  for (let j = 0; j < 5; j++) await settle()
  return { clock, balancer, events, stopping, rounds }
}

test('health check: a backend is taken out after consecutiveFailure bad probes and back after consecutiveSuccess good ones', async () => {
  const check = new ScriptedCheck({ consecutiveFailure: 3, consecutiveSuccess: 2 })
  const { balancer, events, stopping, rounds } = await start(check)
  check.bad.add(ABC[0]!)
  await rounds(2)
  check.bad.clear()
  await rounds(1)
  check.bad.add(ABC[0]!)
  await rounds(2)
  assert.deepEqual(events, [], 'a good probe in between starts the count anew')
  await rounds(1)
  assert.deepEqual(events, ['10.0.0.1:80 false the probe failed: bad'])
  assert.deepEqual(balancer.backends().map(status => status.healthy), [false, true, true])
  assert.deepEqual(balancer.health().ejections, { attempts: 0, check: 1 })
  check.bad.clear()
  await rounds(1)
  assert.equal(events.length, 1)
  await rounds(1)
  assert.deepEqual(events.slice(1), ['10.0.0.1:80 true the probe succeeded'])
  stopping.abort()
})

test('health check: a probe that finds no descriptor or port here says nothing about the backend', async () => {
  for (const code of ['EMFILE', 'ENFILE', 'EADDRNOTAVAIL', 'ENOBUFS']) {
    const check = new ScriptedCheck()
    check.fault = Object.assign(new Error(code), { code })
    const { balancer, events, stopping, rounds } = await start(check)
    for (const name of ABC) check.bad.add(name)
    await rounds(3)
    assert.deepEqual([events, balancer.backends().filter(status => status.ready).length], [[], 3])
    stopping.abort()
  }
})

test('health check: an unhealthy backend gets nothing, not even as a last resort', async () => {
  const check = new ScriptedCheck()
  for (const name of ABC) check.bad.add(name)
  const { balancer, stopping } = await start(check)
  assert.equal(balancer.trySelect(), null)
  stopping.abort()
})

test('health check: when it comes back, earlier failed attempts are forgotten', async () => {
  const check = new ScriptedCheck()
  const { balancer, stopping, rounds } = await start(check)
  balancer.selectWith('', backend => backend.name === ABC[0]).report(false)
  check.bad.add(ABC[0]!)
  await rounds(1)
  check.bad.clear()
  await rounds(1)
  assert.equal(balancer.backends()[0]!.ready, true)
  stopping.abort()
})

test('health check: backends start healthy, or with startUnhealthy after a first round that the start waits for', async () => {
  const late = new ScriptedCheck({ startUnhealthy: true })
  late.bad.add(ABC[1]!)
  const starting = start(late)
  const { balancer, events, stopping } = await starting
  assert.deepEqual(balancer.backends().map(status => status.ready), [true, false, true])
  assert.equal(events.length, 2)
  assert.equal(late.probed.length, 3, 'the round of the start is the first round')
  stopping.abort()
  const balancerBefore = LoadBalancer.from(ABC, { healthCheck: new ScriptedCheck({ startUnhealthy: true }) })
  assert.equal(balancerBefore.trySelect(), null)
})

test('health check: at most maxParallel probes run at a time, and each backend has one a round', async () => {
  const check = new ScriptedCheck({ maxParallel: 4 })
  const names = Array.from({ length: 10 }, (_, i) => `10.0.0.${i}:80`)
  const { stopping } = await start(check, {}, names)
  await waitFor('the round to end', () => check.probed.length === 10 && check.running === 0)
  assert.equal(check.mostRunning, 4)
  assert.deepEqual(new Set(check.probed), new Set(names))
  stopping.abort()
})

test('health check: a probe that never ends fails after timeoutMs, and the round goes on', async () => {
  const check = new ScriptedCheck({ timeoutMs: 400, maxParallel: 1 })
  check.silent.add(ABC[0]!)
  const { clock, events, stopping } = await start(check)
  clock.advance(400)
  for (let j = 0; j < 5; j++) await settle()
  assert.deepEqual(events, ['10.0.0.1:80 false the probe failed: not done within 400 ms'])
  assert.deepEqual(check.probed, ABC)
  stopping.abort()
})

test('health check: the service ends at once when told, and a probe that it cuts makes nobody unhealthy', async () => {
  const check = new ScriptedCheck({ timeoutMs: 900 })
  check.silent.add(ABC[0]!)
  const { clock, balancer, events, stopping } = await start(check)
  stopping.abort()
  await settle()
  assert.equal(clock.pending, 0)
  assert.deepEqual(events, [])
  assert.ok(balancer.backends().every(status => status.healthy))
  assert.equal(check.closed, true)
})

test('health check: a probe that ends after its backend has left changes nothing', async () => {
  const check = new ScriptedCheck()
  const list = [...ABC]
  const stopping = new AbortController()
  const events: string[] = []
  const balancer = new LoadBalancer(functionDiscovery(() => [...list]), {
    clock: new FakeClock(), healthCheck: check, onHealthChange: backend => events.push(backend.name),
  })
  check.bad.add(ABC[0]!)
  await balancer.asBackgroundService().start(stopping.signal)
  list.shift()
  await balancer.update()
  for (let j = 0; j < 10; j++) await settle()
  assert.deepEqual(events, [])
  assert.equal(balancer.set.size, 2)
  stopping.abort()
})

test('health check: options that would not do are refused with what would', () => {
  assert.throws(() => new TcpHealthCheck({ timeoutMs: 0 }), /healthCheck\.timeoutMs is 0; use a positive number of milliseconds/u)
  assert.throws(() => new TcpHealthCheck({ port: 70_000 }), /healthCheck\.port is 70000/u)
  assert.throws(() => new HttpHealthCheck({ path: 'health' }), /healthCheck\.path is "health"; use a path that begins with \//u)
})

/** An origin that answers by `respond`, and says how many connections it has. */
async function origin(t: TestContext, respond: http.RequestListener, listenAt: net.ListenOptions = { host: '127.0.0.1', port: 0 }) {
  const sockets = new Set<net.Socket>()
  let accepted = 0
  const server = http.createServer(respond)
  server.on('connection', socket => {
    accepted++
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.listen(listenAt)
  await once(server, 'listening')
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  const address = server.address()
  return {
    sockets, accepted: () => accepted,
    address: typeof address === 'string' ? `unix:${address}` : `127.0.0.1:${address!.port}`,
    port: typeof address === 'string' ? 0 : address!.port,
  }
}

function backendAt(address: string): Backend { return LoadBalancer.from([address]).set.backends[0]! }
function probe(check: HealthCheck, address: string, signal: AbortSignal = new AbortController().signal): Promise<boolean | void> {
  return within(`a probe of ${address}`, check.probe(backendAt(address), signal))
}

/** An address where nothing listens any more. */
async function closedAddress(): Promise<string> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  server.close()
  await once(server, 'close')
  return `127.0.0.1:${port}`
}

test('health check: a TCP probe succeeds where somebody accepts and leaves no connection', async t => {
  const up = await origin(t, () => {})
  await probe(new TcpHealthCheck(), up.address)
  await probe(new TcpHealthCheck({ port: up.port }), '127.0.0.1:1')
  await waitFor('the connections to be gone', () => up.accepted() === 2 && up.sockets.size === 0)
  await assert.rejects(probe(new TcpHealthCheck(), await closedAddress()), /ECONNREFUSED/u)
  const unix = await origin(t, () => {}, { path: path.join(temporaryFolder(t), 'origin.sock') })
  await probe(new TcpHealthCheck(), unix.address)
})

test('health check: a TCP probe with TLS fails where nobody speaks TLS', async t => {
  const up = await origin(t, () => {})
  await assert.rejects(probe(new TcpHealthCheck({ tls: { verifyCert: false } }), up.address))
  await waitFor('the connection to be gone', () => up.sockets.size === 0)
})

test('health check: probes over TLS verify the certificate against the server name unless told not to', async t => {
  const site = selfSigned({ names: ['origin.example'], ips: ['127.0.0.1'] }), ca = Buffer.from(site.cert)
  const server = https.createServer({ key: site.key, cert: site.cert }, (_request, response) => response.end('well'))
  server.on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  const address = `127.0.0.1:${(server.address() as net.AddressInfo).port}`
  for (const Check of [TcpHealthCheck, HttpHealthCheck]) {
    await probe(new Check({ tls: { verifyCert: false } }), address)
    await probe(new Check({ tls: { ca } }), address)
    await probe(new Check({ tls: { ca, sni: 'origin.example' } }), address)
    await probe(new Check({ tls: { ca: [makeTestCa().cert, ca] } }), address)
    await assert.rejects(probe(new Check({ tls: {} }), address), /self-signed/u)
    await assert.rejects(probe(new Check({ tls: { ca, sni: 'other.example' } }), address), /other\.example/u)
  }
})

test('health check: a probe shows the client certificate that it has, and what would never do is refused at once', async t => {
  const authority = makeTestCa(), device = authority.issue({ names: ['device'] }), site = authority.issue({ ips: ['127.0.0.1'] })
  const options = { ...site, ca: authority.cert, requestCert: true }
  const server = https.createServer(options, (_request, response) => response.end('well')).listen(0, '127.0.0.1')
  server.on('tlsClientError', () => {})
  await once(server, 'listening')
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  const address = `127.0.0.1:${(server.address() as net.AddressInfo).port}`, ca = authority.cert
  await probe(new HttpHealthCheck({ tls: { ca, clientCert: device } }), address)
  await assert.rejects(probe(new HttpHealthCheck({ tls: { ca } }), address))
  assert.throws(() => new HttpHealthCheck({ tls: { ca: 'ca.pem' } }), /healthCheck\.tls\.ca is .*; use certificates in PEM/)
  assert.throws(() => new TcpHealthCheck({ tls: { sni: '127.0.0.1' } }), /healthCheck\.tls\.sni is "127\.0\.0\.1"; use .*SNI carries no IP/)
})

test('health check: an HTTP probe sends what it was told and goes by status 200', async t => {
  const seen: string[] = []
  const up = await origin(t, (request, response) => {
    seen.push(`${request.method} ${request.url} ${request.headers.host} ${request.headers['x-probe'] ?? '-'}`)
    response.statusCode = request.url === '/bad' ? 503 : 200
    response.end('x'.repeat(100))
  })
  await probe(new HttpHealthCheck(), up.address)
  await probe(new HttpHealthCheck({ method: 'HEAD', path: '/live', host: 'app.example', headers: [['X-Probe', 'yes']] }), up.address)
  await assert.rejects(probe(new HttpHealthCheck({ path: '/bad' }), up.address), /answered with status 503/u)
  assert.deepEqual(seen, [`GET / ${up.address} -`, 'HEAD /live app.example yes', `GET /bad ${up.address} -`])
  const unix = await origin(t, (_request, response) => response.end(), { path: path.join(temporaryFolder(t), 'origin.sock') })
  await probe(new HttpHealthCheck(), unix.address)
  await waitFor('the connections to be gone', () => up.sockets.size === 0 && unix.sockets.size === 0)
})

test('health check: a validator decides, by returning false or by throwing', async t => {
  const up = await origin(t, (_request, response) => {
    response.statusCode = 204
    response.setHeader('X-Load', '0.93')
    response.end()
  })
  await probe(new HttpHealthCheck({ validate: status => status === 204 }), up.address)
  await probe(new HttpHealthCheck({ validate: () => {} }), up.address)
  await assert.rejects(
    probe(new HttpHealthCheck({ validate: (_status, headers) => Number(headers['x-load']) < 0.9 }), up.address),
    /status 204/u,
  )
  await assert.rejects(probe(new HttpHealthCheck({ validate: () => { throw new Error('too busy') } }), up.address), /too busy/u)
})

test('health check: a validator that takes its time decides as well, also when the answer is over before', async t => {
  const up = await origin(t, (_request, response) => { response.end('body') })
  for (const reuse of [false, true]) {
    const check = (validate: () => Promise<boolean | void>): HttpHealthCheck => new HttpHealthCheck({ reuse, validate })
    const later = () => new Promise<void>(resolve => { setImmediate(() => setImmediate(resolve)) })
    const checks = [
      check(async () => { await later(); return true }), check(async () => { await later() }),
      check(async () => { await later(); return false }),
      check(async () => { await later(); throw new Error('too busy') }), check(() => new Promise(() => {})),
    ] as const
    t.after(() => { for (const one of checks) one.close() })
    await probe(checks[0], up.address)
    await probe(checks[1], up.address)
    await assert.rejects(probe(checks[2], up.address), /answered with status 200/u)
    await assert.rejects(probe(checks[3], up.address), /too busy/u)
    const ending = new AbortController(), waiting = probe(checks[4], up.address, ending.signal)
    ending.abort(new Error('too late'))
    await assert.rejects(waiting, /too late/u)
  }
})

test('health check: a check of one\'s own that says false is a bad probe, and one that fails to close is reported', async () => {
  const faults: string[] = []
  const { balancer, stopping } = await start({
    options: resolveHealthCheckOptions({ intervalMs: 1000 }),
    probe: async backend => backend.name !== ABC[1],
    close: async () => { throw new Error('planned') },
  }, { onError: (error, context) => faults.push(`${context}: ${(error as Error).message}`) })
  assert.deepEqual(balancer.backends().map(status => status.ready), [true, false, true])
  stopping.abort()
  await waitFor('the check to be closed', () => faults.length === 1)
  assert.deepEqual(faults, ['upstream: closing the health check: planned'])
})

test('health check: with reuse one connection serves many probes, and close ends it; without, each has its own', async t => {
  const up = await origin(t, (_request, response) => response.end('well'))
  const keeping = new HttpHealthCheck({ reuse: true })
  for (let i = 0; i < 5; i++) await probe(keeping, up.address)
  assert.equal(up.accepted(), 1)
  keeping.close()
  await waitFor('the kept connection to be gone', () => up.sockets.size === 0)
  for (let i = 0; i < 3; i++) await probe(new HttpHealthCheck(), up.address)
  assert.equal(up.accepted(), 4)
})

test('health check: a kept connection that breaks between probes costs no probe its verdict for long and throws nothing', async t => {
  const up = await origin(t, (_request, response) => response.end('well'))
  const keeping = new HttpHealthCheck({ reuse: true })
  t.after(() => keeping.close())
  await probe(keeping, up.address)
  for (const socket of up.sockets) socket.resetAndDestroy()
  await waitFor('the connection to be gone', () => up.sockets.size === 0)
  await settle()
  await probe(keeping, up.address)
})

test('health check: probes that are aborted close their connections, whatever they were waiting for', async t => {
  const heads = Promise.withResolvers<void>()
  let open = 0
  const mute = net.createServer(socket => {
    open++
    socket.on('close', () => { open-- })
    socket.on('error', () => {})
    socket.on('data', bytes => {
      if (bytes.toString('latin1', 0, 3) !== 'GET') return
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf')
      heads.resolve()
    })
  }).listen(0, '127.0.0.1')
  await once(mute, 'listening')
  t.after(() => mute.close())
  const address = `127.0.0.1:${(mute.address() as net.AddressInfo).port}`
  for (const check of [new HttpHealthCheck({ reuse: true }), new TcpHealthCheck({ tls: { verifyCert: false } })]) {
    const ending = new AbortController()
    const ended = assert.rejects(probe(check, address, ending.signal), /enough/u)
    await waitFor('the probe to connect', () => open === 1)
    if (check instanceof HttpHealthCheck) await heads.promise
    ending.abort(new Error('enough'))
    await ended
    await waitFor('the connection to be gone', () => open === 0)
  }
  await assert.rejects(probe(new HttpHealthCheck(), address, AbortSignal.abort(new Error('enough'))), /enough/u)
  await waitFor('no connection to be left', () => open === 0)
})

test('health check: a balancer whose service was forgotten says so at its first choice', async () => {
  const warned: string[] = []
  const note = ({ name, message }: Error): void => { if (name === 'CirqueWarning') warned.push(message) }
  process.on('warning', note)
  const choose = (options: LoadBalancerOptions, serve = false): void => {
    const balancer = LoadBalancer.from(['127.0.0.1:1'], options)
    if (serve) balancer.asBackgroundService()
    for (let count = 0; count < 2; count++) balancer.select().release()
  }
  choose({})
  choose({ healthCheck: new ScriptedCheck() }, true)
  assert.deepEqual(warned, [])
  choose({ name: 'api', healthCheck: new ScriptedCheck() })
  choose({ name: 'web', updateIntervalMs: 1000 })
  await new Promise(resolve => { setImmediate(resolve) })
  process.off('warning', note)
  const remedy = 'since its service does not run: server.addService(balancer.asBackgroundService())'
  assert.deepEqual(warned, [`api checks no health, ${remedy}`, `web is not updated, ${remedy}`])
})

test('health check: what comes and goes is told to the log, once for each change, and so is discovery that fails', async () => {
  const said: string[] = []
  const note = (level: string) => (message: string, fields?: LogFields): void => {
    said.push(`${level} ${message}: ${Object.values(fields ?? {}).filter(value => value !== undefined).join(' ')}`)
  }
  const log: ProcessLog = { info: note('info'), warn: note('warn'), error: note('error') }
  const check = new ScriptedCheck(), clock = new FakeClock(), stopping = new AbortController()
  let discovered: readonly string[] | null = null
  const balancer = new LoadBalancer(functionDiscovery(() => {
    if (discovered === null) throw new Error('no registry')
    return [...discovered]
  }), { name: 'api', clock, random: () => 0.5, resolver: null, healthCheck: check, updateIntervalMs: 1000 })
  assert.throws(() => balancer.select(), /api has no backends yet: add its asBackgroundService\(\) to the server/)
  const rounds = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      clock.advance(1000)
      for (let j = 0; j < 5; j++) await settle()
    }
  }
  const service = balancer.asBackgroundService()
  await service.start(stopping.signal, { log })
  assert.deepEqual(said, ['error a load balancer failed, and goes on with what it had: api updating the backends no registry'])
  assert.deepEqual([...service.notices()], ['api could not update its backends: no registry', 'api has no backends'])
  discovered = ABC
  await rounds(3)
  assert.deepEqual([...service.notices()], [])
  check.bad.add(ABC[1]!)
  said.length = 0
  await rounds(4)
  assert.deepEqual(said, [`warn a backend gets no traffic: api ${ABC[1]} the probe failed: bad 2 3`])
  check.bad.clear()
  await rounds(4)
  assert.deepEqual(said.slice(1), [`info a backend gets traffic again: api ${ABC[1]} the probe succeeded 3 3`])
  // One that fails and comes back all the time has a line a second.
  said.length = 0
  const [backend] = balancer.set.backends
  for (let i = 0; i < 500; i++) balancer.setEnabled(backend!.name, i % 2 === 1)
  assert.ok(said.length <= 4, said.join('\n'))
  stopping.abort()
})
