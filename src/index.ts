/// <reference types="node" preserve="true" />
/** The public surface of the package: re-exports only. Its declarations name types of Node.js, so they ask for `@types/node`. */
import './runtime-check.ts'

// A server and its services.
export type { LimitOptions } from './config/limit-options.ts'
export { Server, type BoundAddress, type SelfTestOptions, type ServiceHandle } from './server/server.ts'
export { httpProxyService } from './server/http-proxy-service.ts'
export { httpsRedirect, type HttpsRedirectOptions } from './server/https-redirect.ts'
export type { HttpProxyOptions } from './server/http-proxy-options.ts'
export type {
  BackgroundService, CertificateReload, DrainRequest, HttpProxyService, ListenerSpec, ListeningService, RunningListener, Service,
  ServiceStats,
} from './server/service.ts'
export type { ServerContext, StartContext } from './server/server-context.ts'
export { SILENT_LOG, type LogFields, type ProcessLog } from './ipc/process-log.ts'
export {
  inject,
  type InjectOptions, type InjectOrigin, type InjectRequest, type InjectResponse, type OriginAnswer, type OriginRequest,
} from './server/inject.ts'

// Listeners.
export type { Acceptor, ListeningAt } from './listener/acceptor.ts'
export { TcpAcceptor } from './listener/tcp-acceptor.ts'
export type { HttpListenerOptions } from './listener/http-listener-options.ts'
export type { ListenerOptions } from './listener/listener-options.ts'
export type { CertificateFor, TlsListenerOptions } from './listener/tls-listener-options.ts'
export {
  CertificateError, type CertificateMistake, type CertificateRemark, type ClientCertificates, type GivenCertificate,
} from './certificates/certificate-entry.ts'
export type { CertificateChange } from './certificates/certificate-files.ts'
export type { TlsPolicyName, TlsVersion } from './certificates/tls-policy-name.ts'
export type { HalfClose, HttpServerOptions } from './protocols/http-options.ts'
export type { Http1ServerOptions } from './protocols/http1/http1-options.ts'
export type { Http2ServerOptions } from './protocols/http2/http2-options.ts'

// What an application does with a request.
export type {
  AskedFilter, BodyResult, BodyUse, FailToProxy, ProxyHttp, ResponseVerdict, UpstreamFacts, Verdict,
} from './proxy/proxy-http.ts'
export type { LogValue, ResponseBody, ResponseFields, Session } from './proxy/session.ts'
export type { SessionLimits } from './proxy/session-limits.ts'
export { statusOf } from './proxy/fail-to-proxy.ts'
export type { ForwardedOptions } from './proxy/forwarded-options.ts'
export type { HttpModule } from './modules/http-module.ts'
export { HeaderMap } from './http/header-map.ts'
export { RequestHead, ResponseHead, type HttpVersion } from './http/message-head.ts'
export { ERROR_KINDS, ProxyError, type ErrorKind, type ErrorSource, type ProxyErrorDetails, type RetryRule } from './errors/proxy-error.ts'
export { OptionError, type OptionMistake } from './primitives/option-table.ts'

// Peers, and how connections to them are made and kept.
export { BasicPeer, type BasicPeerOptions } from './peer/basic-peer.ts'
export { HttpPeer, type BackendLike, type ConnectProxyOptions, type HttpPeerOptions } from './peer/http-peer.ts'
export type { ConnectProxy, Peer } from './peer/peer.ts'
export type { PeerAddress } from './peer/peer-address.ts'
export { PEER_DEFAULTS, type ClientCert, type CustomL4, type PeerOptions, type ResolvedPeerOptions } from './peer/peer-options.ts'
export { HttpConnector } from './connector/http-connector.ts'
export type { ConnectionFactory, Transport } from './connector/connection-dial.ts'
export type { HttpConnectorOptions } from './connector/connector-options.ts'
export { TransportConnector, type ConnectionFacts, type DialWaiter, type PendingDial } from './connector/transport-connector.ts'
export type { TransportConnectorOptions } from './connector/transport-options.ts'
export { Resolver, type DnsAddress, type DnsSource, type ResolverOptions } from './connector/resolver.ts'
export type { PeerConnections } from './pool/connection-pool.ts'
export type { PoolOptions } from './pool/pool-options.ts'
export type { ByteStream, ReceiveBuffer, StreamDigest, StreamOwner, TlsFacts, TlsIdentity } from './protocols/byte-stream.ts'

// Load balancing.
export {
  LoadBalancer, type LoadBalancerOptions, type SelectionName, type SelectOptions, type TriesPeers,
} from './load-balancing/load-balancer.ts'
export { Backend, type BackendOptions, type BackendStatus, type Candidates } from './load-balancing/backend.ts'
export { functionDiscovery, staticDiscovery, type Discovery, type NameResolver, type ResolvedName } from './load-balancing/discovery.ts'
export {
  HttpHealthCheck, resolveHealthCheckOptions, TcpHealthCheck,
  type HealthCheck, type HealthCheckOptions, type HttpHealthCheckOptions, type ProbeTlsOptions, type ResolvedHealthCheckOptions,
  type TcpHealthCheckOptions,
} from './load-balancing/health-check.ts'
export { GrpcHealthCheck, type GrpcHealthCheckOptions } from './load-balancing/grpc-health-check.ts'
export { SharedHealthCheck } from './load-balancing/shared-health-check.ts'
export { KetamaSelection, type KetamaOptions } from './load-balancing/ketama.ts'
export type { Selection, Selector, Turn } from './load-balancing/selection.ts'
export type { HashKey } from './primitives/hash.ts'
export type { Clock } from './primitives/clock.ts'

// What watches.
export type {
  AttemptConnected, AttemptEnded, AttemptResponded, AttemptStarted, DownstreamAccepted, DownstreamClosed, DownstreamRefused,
  ExchangeEnded, ExchangeRetried, ExchangeStarted, RefusalReason, RequestRefused, Tracer, UpstreamClosed, UpstreamConnected,
  UpstreamConnectFailed, UpstreamReused,
} from './telemetry/tracer.ts'
export { fanOut, tracerFaults } from './telemetry/tracer-group.ts'
export {
  metrics, type Counter, type Gauge, type GaugeDefinition, type Histogram, type HistogramDefinition, type LabelledCounter,
  type LabelledGauge, type LabelledHistogram, type Metric, type MetricDefinition, type Metrics,
} from './telemetry/metrics.ts'
export type { RequestTrace, RequestTracing, TraceIdentity } from './telemetry/request-trace.ts'
export { startTraces, type Traces, type TracesContext } from './telemetry/exporters/start-traces.ts'
export type { TracesOptions } from './config/traces-options.ts'
export type { AccessLogSink, LoggedExchange } from './telemetry/access-record.ts'
export { AccessLog, type AccessLogOptions } from './telemetry/exporters/access-log.ts'
export type { LineDestination } from './telemetry/exporters/line-sink.ts'
