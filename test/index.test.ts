/**
 * The names that users import. Values are compared at run time; types have to be there for this file to compile, so a name
 * that is no longer exported, or is no longer what it was, fails the check of types.
 */
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import * as cirque from '../src/index.ts'
import * as kit from '../src/kit/index.ts'

const VALUES = [
  'AccessLog', 'Backend', 'BasicPeer', 'CertificateError', 'ERROR_KINDS', 'fanOut', 'functionDiscovery', 'GrpcHealthCheck', 'HeaderMap',
  'HttpConnector', 'HttpHealthCheck', 'httpsRedirect', 'HttpPeer', 'httpProxyService', 'inject', 'metrics', 'KetamaSelection',
  'LoadBalancer', 'OptionError', 'PEER_DEFAULTS', 'ProxyError', 'RequestHead',
  'resolveHealthCheckOptions', 'Resolver', 'ResponseHead', 'Server', 'SharedHealthCheck', 'SILENT_LOG', 'startTraces',
  'staticDiscovery', 'statusOf',
  'TcpAcceptor', 'TcpHealthCheck', 'tracerFaults', 'TransportConnector',
] as const satisfies readonly (keyof typeof cirque)[]

const KIT_VALUES = [
  'basicAuth', 'basicCredentials', 'bearerAuth', 'canonicalHost', 'clientNetwork', 'cookiesOf', 'cors', 'grpcWeb', 'hostOf', 'Hosts',
  'localPath', 'Networks', 'ownCertificate', 'queryOf', 'readJson', 'redirect', 'respondJson', 'Router', 'sameSecret', 'schemeOf',
  'securityHeaders', 'setCookie', 'setQuery', 'staticFiles',
] as const satisfies readonly (keyof typeof kit)[]

/** One property a type, so that each of them has to be there. */
export interface Types {
  service: cirque.BackgroundService | cirque.ListeningService | cirque.Service
  context: cirque.ServerContext | cirque.ProcessLog
  acceptor: cirque.Acceptor | cirque.ListeningAt
  serviceParts: cirque.DrainRequest | cirque.ListenerSpec | cirque.RunningListener | cirque.ServiceStats
  server: cirque.BoundAddress | cirque.SelfTestOptions | cirque.ServiceHandle | cirque.HttpProxyOptions | cirque.ForwardedOptions
  proxyService: cirque.HttpProxyService | cirque.HalfClose | cirque.Clock
  inject: cirque.InjectOptions | cirque.InjectOrigin | cirque.InjectRequest | cirque.InjectResponse | cirque.OriginAnswer
  origin: cirque.OriginRequest
  listener: cirque.HttpListenerOptions | cirque.ListenerOptions | cirque.HttpServerOptions | cirque.Http1ServerOptions
  hooks: cirque.BodyResult | cirque.FailToProxy | cirque.ProxyHttp<null> | cirque.Verdict | cirque.HttpModule
  moreHooks: cirque.AskedFilter | cirque.BodyUse | cirque.ResponseVerdict | cirque.UpstreamFacts
  session: cirque.ResponseBody | cirque.ResponseFields | cirque.Session
  ofSession: cirque.SessionLimits | cirque.LogValue | cirque.HttpVersion
  errors: cirque.ErrorKind | cirque.ErrorSource | cirque.RetryRule | cirque.OptionMistake | cirque.ProxyErrorDetails
  peer: cirque.Peer | cirque.PeerAddress | cirque.ConnectProxy | cirque.ClientCert | cirque.CustomL4
  peerOptions: cirque.PeerOptions | cirque.BasicPeerOptions | cirque.HttpPeerOptions | cirque.ConnectProxyOptions
  connector: cirque.HttpConnectorOptions | cirque.PoolOptions | cirque.ConnectionFactory
  transport: cirque.Transport | cirque.TransportConnectorOptions
  resolver: cirque.ResolverOptions | cirque.DnsSource
  stream: cirque.ByteStream | cirque.StreamDigest | cirque.StreamOwner
  balancer: cirque.LoadBalancerOptions | cirque.SelectionName | cirque.SelectOptions | cirque.BackendOptions | cirque.Discovery
  tried: cirque.TriesPeers | cirque.BackendStatus | cirque.BackendLike | cirque.Candidates | cirque.HashKey
  names: cirque.NameResolver | cirque.ResolvedName | cirque.DnsAddress
  open: cirque.PeerConnections | cirque.ReceiveBuffer | cirque.TlsFacts | cirque.LogFields
  selection: cirque.Selection | cirque.Selector | cirque.KetamaOptions
  healthCheck: cirque.HealthCheck | cirque.HealthCheckOptions | cirque.HttpHealthCheckOptions | cirque.TcpHealthCheckOptions
    | cirque.GrpcHealthCheckOptions
  probe: cirque.ProbeTlsOptions
  exchangeEvents: cirque.ExchangeStarted | cirque.ExchangeRetried | cirque.ExchangeEnded | cirque.RequestRefused
  attemptEvents: cirque.AttemptStarted | cirque.AttemptConnected | cirque.AttemptResponded | cirque.AttemptEnded
  upstreamEvents: cirque.UpstreamConnected | cirque.UpstreamConnectFailed | cirque.UpstreamReused | cirque.UpstreamClosed
  downstreamEvents: cirque.DownstreamAccepted | cirque.DownstreamRefused | cirque.DownstreamClosed | cirque.RefusalReason
  watching: cirque.Tracer
  traces: cirque.Traces | cirque.TracesContext | cirque.TracesOptions | cirque.TraceIdentity | cirque.RequestTrace | cirque.RequestTracing
  kit: kit.CookieOptions | kit.RouteMatch<string> | kit.MatchedRoute<string> | kit.UnmatchedRoute | kit.RouteParams | kit.RedirectStatus
  guards: kit.Guard | kit.BasicAuthOptions | kit.PasswordCheck | kit.BearerAuthOptions | kit.TokenCheck | kit.TokenVerdict
  fields: kit.CorsOptions | kit.OriginCheck | kit.SecurityHeaderOptions
  files: kit.StaticFiles | kit.StaticFilesOptions | kit.CanonicalHostOptions
  accessLog: cirque.AccessLogSink | cirque.LoggedExchange | cirque.AccessLogOptions | cirque.LineDestination
}

test('package: the values that it exports are these', () => {
  assert.deepEqual(Object.keys(cirque).toSorted(), [...VALUES].toSorted())
  assert.deepEqual(Object.keys(kit).toSorted(), [...KIT_VALUES].toSorted())
})

test('package: the library behind static files is loaded with the first folder, and not with the kit', () => {
  assert.deepEqual(Object.keys(createRequire(import.meta.url).cache).filter(file => file.includes('fastify')), [])
})

test('package: what a health check, a balancer and a connector are made of can be put together from the edge', () => {
  const { functionDiscovery, HttpConnector, HttpHealthCheck, KetamaSelection, LoadBalancer, Resolver, TransportConnector } = cirque
  const transport = new TransportConnector({ resolver: new Resolver({ maxNames: 10 }), bindToV4: ['127.0.0.1'] })
  const connector = new HttpConnector({ transport, maxIdlePerKey: 4 })
  const balancer = new LoadBalancer(functionDiscovery(() => ['127.0.0.1:1']), {
    selection: new KetamaSelection(),
    healthCheck: new HttpHealthCheck({ path: '/live' }),
  })
  assert.equal(connector.pool.options.maxIdlePerKey, 4)
  assert.equal(balancer.options.name, 'upstream')
})

test('package: an option that would not do is refused as an OptionError, which is a TypeError', () => {
  const { HttpPeer, OptionError } = cirque
  assert.throws(() => new HttpPeer('127.0.0.1:1', { maxAttempts: 0 }), error => {
    return error instanceof OptionError && error instanceof TypeError && error.mistakes.length === 1
  })
})
