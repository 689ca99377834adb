/**
 * What an editor shows of the package: every exported name and every member of what is exported says what it is, and a class has
 * the members below and no others. One that is added is meant to be called by applications; any other is marked `@internal`,
 * which keeps it out of the declarations.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { publishedManifest } from '../../scripts/build-package.ts'
import { declaredNames, withBases, writeDeclarations, type DeclaredName } from '../support/declared-surface.ts'
import { writeTree } from '../support/temporary-folder.ts'

const ROOT = path.join(import.meta.dirname, '../..')
const OURS = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as Parameters<typeof publishedManifest>[0]

/** Members that applications may use, besides constructors. */
const MEMBERS: Readonly<Record<string, string>> = {
  AccessLog: 'close dropped exchange faults refused reopen',
  Backend: 'enabled ext failures healthy hostName inFlight name origin peer peerAddress ready release report selected status weight',
  BasicPeer: '',
  CertificateError: 'mistakes',
  Counter: 'inc',
  Gauge: 'dec inc set',
  GrpcHealthCheck: 'options probe',
  HeaderMap: '[Symbol.iterator] append clone contentLength delete from get getAll has set size toObject',
  Histogram: 'observe',
  Hosts: 'of',
  HttpConnector: 'close closeIdle stats',
  HttpHealthCheck: 'close options probe',
  HttpPeer: 'address backend clientCert connectProxy name options release report reuseKey sni tls',
  HttpProxyService: 'addTcp addTls addUnix name stats',
  KetamaSelection: 'build keyed name',
  LabelledCounter: 'inc',
  LabelledGauge: 'dec inc set',
  LabelledHistogram: 'observe',
  LoadBalancer: 'asBackgroundService backends from options select selectFor selectPeer selectPeerFor selectWith setEnabled trySelect ' +
    'trySelectFor trySelectPeerFor update',
  Metric: 'labels',
  Metrics: 'counter gauge histogram',
  Networks: 'has',
  OptionError: 'mistakes of',
  OwnCertificate: 'authority certificate kind name start',
  ProxyError: 'hook kind limit retry source status',
  RequestHead: 'authority build check clone headers host method path query scheme target version',
  Resolver: 'options resolve',
  ResponseHead: 'build check clone headers reason status version',
  Router: 'add match',
  Server: 'addService close limits runForever selfTest start stats stop',
  ServiceHandle: 'dependsOn name',
  SharedHealthCheck: 'close options probe',
  TcpAcceptor: 'attach close listen',
  TcpHealthCheck: 'options probe',
  TransportConnector: 'connect dial',
  Turn: 'accepts knows over',
}

/** Whoever writes a part as a class says what its methods take and give: those names are there as well. */
const OWN_PARTS = `
import {
  HttpConnector, PEER_DEFAULTS, resolveHealthCheckOptions, TransportConnector, type AccessLogSink, type Backend, type BackgroundService,
  type ByteStream, type Candidates, type ConnectionFacts, type ConnectProxy, type CustomL4, type DialWaiter, type Discovery, type HashKey,
  type HealthCheck, type LoggedExchange, type Peer, type PeerAddress, type PendingDial, type ProxyError, type ResolvedHealthCheckOptions,
  type ResolvedPeerOptions, type Selection, type Selector, type ServerContext, type Transport, type Turn,
} from 'cirque'

export class First implements Selection {
  readonly name = 'first'
  readonly keyed = false
  build(candidates: Candidates, _previous: Selector | null): Selector { return new InOrder(candidates) }
}
class InOrder implements Selector {
  readonly #candidates: Candidates
  constructor(candidates: Candidates) { this.#candidates = candidates }
  pick(_key: HashKey, turn: Turn): Backend | null {
    for (const backend of this.#candidates.backends) {
      if (turn.over) return null
      if (!turn.knows(backend) && turn.accepts(backend)) return backend
    }
    return null
  }
}
export class Always implements HealthCheck {
  readonly options: ResolvedHealthCheckOptions = resolveHealthCheckOptions({})
  async probe(_backend: Backend, _signal: AbortSignal): Promise<boolean> { return true }
}
export class Fixed implements Peer {
  readonly address: PeerAddress = { kind: 'tcp', host: '127.0.0.1', port: 80 }
  readonly tls = false
  readonly sni = ''
  readonly connectProxy: ConnectProxy | null = null
  readonly options: ResolvedPeerOptions = PEER_DEFAULTS
  readonly reuseKey = 'fixed'
  readonly name = '127.0.0.1:80'
}
export class Counting implements Transport, DialWaiter {
  readonly #inner = new TransportConnector()
  dial(peer: Peer, waiter: DialWaiter): PendingDial { return this.#inner.dial(peer, waiter) }
  onDialed(_stream: ByteStream, _early: Buffer | null, _facts?: ConnectionFacts): void {}
  onDialFailed(_error: ProxyError): void {}
}
new HttpConnector({ transport: new Counting() })
export class Sink implements AccessLogSink {
  exchange(_exchange: LoggedExchange, _atMs: number): void {}
  refused(_listener: string, _clientIp: string, _error: ProxyError, _flag: string, _atMs: number): void {}
}
export class Task implements BackgroundService {
  readonly kind = 'background'
  readonly name = 'task'
  start(_signal: AbortSignal, _context: ServerContext): void {}
}
export const l4: CustomL4 = { connect: (_address: PeerAddress) => Promise.reject<ByteStream>(new Error('no')) }
export type Found = Discovery
`

const folder = realpathSync(mkdtempSync(path.join(os.tmpdir(), 'cirque-')))
let names: readonly DeclaredName[] = []
/** Those with members: classes, interfaces and objects, and what they extend. */
let shaped: readonly DeclaredName[] = []
/** Those with members that are called. */
let called: readonly DeclaredName[] = []
before(() => {
  const dist = path.join(folder, 'node_modules/cirque/dist')
  writeDeclarations(dist)
  names = [...declaredNames(dist), ...declaredNames(dist, 'src/kit/index.d.ts')]
  shaped = withBases(dist, names).filter(({ kind }) => kind === 'class' || kind === 'interface' || kind === 'const')
  called = names.filter(({ kind, name }) => kind === 'class' || name === 'HttpProxyService')
})
after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }))

test('public surface: every exported name says what it is', () => {
  assert.ok(names.length > 100, `${names.length} names`)
  assert.deepEqual(names.filter(({ doc }) => doc === '').map(({ name }) => name), [])
})

test('public surface: every member of an exported class, interface or object says what it is', () => {
  const members = shaped.flatMap(one => one.members.map(({ name, doc }) => ({ place: `${one.source}: ${one.name}.${name}`, doc })))
  assert.ok(members.length > 700, `${members.length} members`)
  assert.deepEqual(members.filter(({ doc }) => doc === '').map(({ place }) => place), [])
})

test('public surface: a class has the members that applications may use, and no others', () => {
  const found = called.map(({ name, members }) => {
    return [name, members.map(member => member.name).filter(member => member !== 'constructor').toSorted().join(' ')]
  })
  assert.deepEqual(Object.fromEntries(found), MEMBERS)
})

test('public surface: options have a default each, or say that they must be given', () => {
  for (const { name, kind, members } of names) {
    if (kind !== 'interface' || !name.endsWith('Options')) continue
    for (const member of members) {
      const says = /@default|\bMust[\s*]+be[\s*]+given\b/.test(member.doc) || (name === 'BackendOptions' && member.name === 'address') ||
        (name === 'ConnectProxyOptions' && member.name === 'nextHop')
      assert.ok(says, `${name}.${member.name}`)
    }
  }
})

test('public surface: what takes options says what it throws, or how it rejects', () => {
  const taking = [
    ...names.filter(({ kind, text }) => kind === 'function' && /\boptions\??: /.test(text)),
    ...called.filter(({ text }) => /^ {4}constructor\(.*Options\b/m.test(text)).map(({ name, members }) => {
      return { name, doc: members.find(member => member.name === 'constructor')!.doc }
    }),
  ]
  assert.ok(taking.length > 15, `${taking.length} of them`)
  assert.deepEqual(taking.filter(({ doc }) => !/@throws|\bRejects\b/.test(doc)).map(({ name }) => name), [])
})

test('public surface: the declarations hold by themselves, and an application compiles against them alone', () => {
  const project = path.join(folder, 'project')
  writeTree(folder, {
    'node_modules/cirque/package.json': JSON.stringify({
      name: 'cirque', type: 'module', exports: publishedManifest(OURS)['exports'],
    }),
    'project/package.json': '{ "type": "module" }',
    // Neither `types` nor `skipLibCheck`: the package asks for the types of Node.js by itself.
    'project/tsconfig.json': JSON.stringify({
      compilerOptions: { target: 'esnext', lib: ['esnext'], module: 'nodenext', strict: true, noEmit: true }, include: ['*.ts'],
    }),
    'project/app.ts': `
import {
  AccessLog, functionDiscovery, HttpConnector, HttpHealthCheck, HttpPeer, httpProxyService, inject, KetamaSelection, LoadBalancer, Server,
  TcpHealthCheck, type HttpModule, type ProxyHttp,
} from 'cirque'
import { basicAuth, cookiesOf, Networks, Router, type RouteMatch } from 'cirque/kit'

const balancer = new LoadBalancer(functionDiscovery(() => ['10.0.0.1:8080']), {
  healthCheck: new HttpHealthCheck(), selection: new KetamaSelection(), peer: backend => new HttpPeer(backend),
})
new TcpHealthCheck({ intervalMs: 1000 })
const louder: HttpModule = { name: 'louder', bodyUse: () => 'pass', responseBodyFilter: (_session, chunk) => chunk }
const app: ProxyHttp = {
  modules: [louder],
  earlyRequestFilter(session) {
    session.setLimits({ maxRequestBodyBytes: 10 })
    session.inAccessLog = false
    session.logField('tenant', 'acme')
  },
  upstreamPeer: session => balancer.selectPeerFor(session),
  upstreamResponseFilter: (session, response) => response.status === 503 && !session.signal.aborted ? 'retry' : 'continue',
}
const match: RouteMatch<number> = new Router<number>().add('/api/*', 1).match({} as never)
if (match.found) void [match.value, match.params['id'], basicAuth({ users: { ada: 'secret' } }), cookiesOf, new Networks([]).has('')]
const service = httpProxyService(app, { connector: new HttpConnector(), accessLog: new AccessLog('stdout') }).addTcp(':8080')
const server = new Server()
server.addService(balancer.asBackgroundService())
server.addService(service).dependsOn('upstream')
void inject(app, {}, { origin: () => ({ body: 'ok' }) })
// @ts-expect-error What only a server and its worker call is not offered.
service.bind
// @ts-expect-error The same of the map of fields.
void inject(app).then(({ headers }) => headers.mask)
`,
    'project/own-parts.ts': OWN_PARTS,
  })
  for (const name of ['@types', 'undici-types']) {
    symlinkSync(path.join(ROOT, 'node_modules', name), path.join(folder, 'node_modules', name))
  }
  const { status, stdout } = spawnSync(path.join(ROOT, 'node_modules/.bin/tsc'), ['--project', project], { encoding: 'utf8' })
  assert.equal(status, 0, stdout)
})
