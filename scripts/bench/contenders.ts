/**
 * Every proxy that is compared, and how each one is started on a free port in front of the origin.
 * Most are told the same things as far as they can be: HTTP/1.1 and keep-alive to the origin with room for 1024 idle
 * connections, no access log, an accept queue of 4096, one core, the forwarded fields that Cirque sends by default.
 * Names that end with `-log` have an access log besides, those that end with `-default` run as they come.
 * README.md says where they differ.
 */
import { accessSync, constants, copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { CIPHER_SUITES, ORIGIN_NAME, type TlsFiles } from './certificates.ts'
import { AFTER, BEFORE_SUFFIX } from './comparison.ts'
import type { Launch } from './managed-process.ts'
import { NGINX, NGINX_LOG } from './measurement.ts'
import { runAs } from './origin.ts'

export interface Place {
  readonly originPort: number
  readonly listenPort: number
  /** A temporary folder of this contender's own. */
  readonly folder: string
  /** What its listener speaks TLS with; null: plain HTTP. */
  readonly tls: TlsFiles | null
  /** Who signed the certificate of the origin, which speaks TLS; null: plain HTTP. */
  readonly originCaFile: string | null
  /** Where the origin speaks HTTP/2; null: not what is measured. */
  readonly originHttp2Port: number | null
  /** Whether clients may choose HTTP/2. */
  readonly http2: boolean
  /** Whether requests are calls of gRPC: nginx has to be told. */
  readonly grpc: boolean
}

/** HTTP/1 in the clear on both sides. */
export const PLAIN_PLACE = { tls: null, originCaFile: null, originHttp2Port: null, http2: false, grpc: false } as const

export interface Contender {
  readonly name: string
  /** `node`: another proxy written for Node.js, for the target that compares with the best of them. */
  readonly kind: 'cirque' | 'native' | 'node'
  /** Runs only where a workload or a trial names it. */
  readonly onlyWhereNamed: boolean
  /** More client connections than this it does not take as it comes. */
  readonly connectionsMax?: number
  /** What is missing on this machine, or null. */
  missing(): string | null
  /** Whether it can be told to. */
  speaksTls(): boolean
  /** Likewise, on both sides. nginx has HTTP/1 to the origin, which is all that it can, and gRPC. */
  speaksHttp2(): boolean
  launch(place: Place): Launch
}

export type CirqueForm = 'supervised' | 'in-process'

const benchFolder = import.meta.dirname
/** The checkout that this file belongs to. */
export const checkout = path.join(benchFolder, '..', '..')

/** @returns why a program cannot be started, or null. */
export function missingProgram(name: string): string | null {
  for (const folder of (process.env['PATH'] ?? '').split(':')) {
    try {
      accessSync(path.join(folder, name), constants.X_OK)
      return null
    } catch {
      // Not in this folder; the next one may have it.
    }
  }
  return 'not installed'
}

function writeConfig(place: Place, name: string, text: string): string {
  const file = path.join(place.folder, name)
  writeFileSync(file, text)
  return file
}

/** What our own entry files read; see node-proxies/ports.ts. */
function portVariables({ originPort, originHttp2Port, listenPort, tls, originCaFile }: Place): Record<string, string> {
  return {
    BENCH_ORIGIN_PORT: String(originHttp2Port ?? originPort), BENCH_LISTEN_PORT: String(listenPort),
    ...originHttp2Port === null ? null : { BENCH_ORIGIN_ALPN: 'h2' },
    ...tls === null ? null : { BENCH_CERT_FILE: tls.certFile, BENCH_KEY_FILE: tls.keyFile },
    ...originCaFile === null ? null : { BENCH_ORIGIN_CA_FILE: originCaFile, BENCH_ORIGIN_NAME: ORIGIN_NAME },
  }
}

function never(): boolean { return false }
function always(): boolean { return true }

function missingFile(file: string): string | null {
  return existsSync(file) ? null : `no ${path.relative(process.cwd(), file)} yet`
}

/** Where a contender with an access log writes it. */
export function logFile(folder: string): string {
  return path.join(folder, 'access.log')
}

/** Cirque from `root`, which may be another checkout: that is how a change is compared with what was before it. */
function cirque(name: string, root: string, form: CirqueForm, profile: boolean): Contender {
  const app = path.join(root, 'scripts', 'bench', 'app.ts')
  return {
    name,
    kind: 'cirque',
    onlyWhereNamed: false,
    missing() {
      const program = form === 'supervised' ? missingFile(path.join(root, 'bin', 'cirque')) : null
      return missingFile(path.join(root, 'src', 'index.ts')) ?? missingFile(app) ?? program
    },
    // One from before there was TLS would listen without.
    speaksTls: () => readFileSync(app, 'utf8').includes('BENCH_CERT_FILE'),
    speaksHttp2: () => readFileSync(app, 'utf8').includes('BENCH_ORIGIN_ALPN'),
    launch(place) {
      const env: Record<string, string> = { ...portVariables(place), NODE_ENV: 'production' }
      if (profile) env['BENCH_PROFILE_FOLDER'] = place.folder
      if (form === 'supervised') {
        const args = ['run', app, '--workers', '1', '--state-dir', path.join(place.folder, 'state')]
        return { command: path.join(root, 'bin', 'cirque'), args, env, cwd: root }
      }
      return { command: process.execPath, args: [app], env: { ...env, BENCH_IN_PROCESS: '1' }, cwd: root }
    },
  }
}

/** The same with other telemetry than metrics. */
function cirqueTold(name: string, root: string, profile: boolean, told: (place: Place) => Readonly<Record<string, string>>): Contender {
  const plain = cirque(name, root, 'supervised', profile)
  return {
    ...plain,
    onlyWhereNamed: true,
    launch(place) {
      const launch = plain.launch(place)
      return { ...launch, env: { ...launch.env, ...told(place) } }
    },
  }
}

/** An access log to a file. */
function logTold(place: Place): Record<string, string> {
  return { BENCH_ACCESS_LOG: '1', CIRQUE_LOG_ACCESS: logFile(place.folder) }
}

/** Traces as they come, one request of a hundred, sent to where nothing listens but the origin, which refuses them. */
function tracesTold({ originPort }: Place): Record<string, string> {
  return { CIRQUE_TRACES_ENABLED: 'true', CIRQUE_TRACES_ENDPOINT: `http://127.0.0.1:${originPort}` }
}

interface DefaultForm {
  readonly workers: number
  readonly onlyWhereNamed: boolean
  /** Configuration that a trial needs besides. */
  readonly env?: Readonly<Record<string, string>>
}

/** Cirque as it comes, its access log on stdout, which is a file. */
function cirqueDefault(name: string, root: string, { workers, onlyWhereNamed, env = {} }: DefaultForm): Contender {
  const program = path.join(root, 'bin', 'cirque')
  return {
    name,
    kind: 'cirque',
    onlyWhereNamed,
    missing: () => missingFile(program) ?? missingFile(path.join(root, 'src', 'index.ts')),
    speaksTls: never,
    speaksHttp2: never,
    launch(place) {
      // Outside of every checkout: `cirque run` uses the installation that its application finds.
      const app = path.join(place.folder, 'app.ts')
      copyFileSync(path.join(benchFolder, 'default-app.ts'), app)
      const args = ['run', app, '--workers', String(workers), '--state-dir', path.join(place.folder, 'state')]
      return {
        command: program, args, cwd: place.folder, stdoutFile: logFile(place.folder),
        env: { ...portVariables(place), ...env, BENCH_CIRQUE_ROOT: root, NODE_ENV: 'production' },
      }
    },
  }
}

/** Large answers cost nginx several times less with large buffers; few installations set them, so that is a contender of its own. */
const NGINX_LARGE_BUFFERS = 'proxy_buffer_size 16k; proxy_buffers 16 64k; proxy_busy_buffers_size 128k; proxy_max_temp_file_size 0;'

/** Fields that nginx sends to the origin, as Cirque does by default. */
const FORWARDED: readonly (readonly [name: string, value: string])[] = [
  ['Host', '$http_host'], ['X-Forwarded-For', '$remote_addr'], ['X-Forwarded-Proto', '$scheme'], ['X-Forwarded-Host', '$http_host'],
  ['X-Request-Id', '$request_id'], ['Via', '"1.1 nginx"'],
]

/**
 * `extra` goes into the location. Uploads are streamed instead of buffered first: by default nginx writes each into a file,
 * which no other contender does.
 */
export function nginxConfig(place: Place, extra: string, form: { workers?: number; log?: boolean } = {}): string {
  const { workers = 1, log = false } = form
  const folder = place.folder
  const tls = place.tls === null ? '' : place.http2 ? ' ssl http2' : ' ssl'
  const certificate = place.tls === null ? '' : `ssl_certificate ${place.tls.certFile};
    ssl_certificate_key ${place.tls.keyFile};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_prefer_server_ciphers on;
    ssl_conf_command Ciphersuites ${CIPHER_SUITES};
    ssl_session_tickets on;`
  const plain = place.grpc ? 'grpc_pass grpc://origin;' : 'proxy_pass http://origin;'
  const originPort = place.grpc ? place.originHttp2Port : place.originPort
  const pass = place.originCaFile === null ? plain : `proxy_pass https://origin;
      proxy_ssl_protocols TLSv1.2 TLSv1.3;
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate ${place.originCaFile};
      proxy_ssl_name ${ORIGIN_NAME};
      proxy_ssl_server_name on;`
  return `${runAs()}daemon off;
worker_processes ${workers};
pid ${folder}/pid;
error_log stderr error;
events { worker_connections 16384; }
http {
  ${log ? nginxLog(place) : 'access_log off;'}
  keepalive_timeout 1h;
  keepalive_time 24h;
  keepalive_requests 1000000000;
  ${temporaryPaths(folder)}
  upstream origin {
    server 127.0.0.1:${originPort};
    keepalive 1024;
    keepalive_timeout 1h;
    keepalive_time 24h;
    keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:${place.listenPort}${tls} backlog=4096;
    ${certificate}
    client_max_body_size 0;
    location / {
      ${pass}
      ${place.grpc ? '' : `proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_set_header Connection "";`}
      ${extra}
      ${FORWARDED.map(([name, value]) => `${place.grpc ? 'grpc' : 'proxy'}_set_header ${name} ${value};`).join('\n      ')}
      add_header Via "1.1 nginx";
    }
  }
}
`
}

function temporaryPaths(folder: string): string {
  return ['client_body', 'proxy', 'fastcgi', 'scgi', 'uwsgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join('\n  ')
}

/** Each field of docs/access-log.md that nginx knows, under the same name, and a constant for the few that it does not. */
const LOG_FIELDS: Readonly<Record<string, string>> = {
  ts: '"$time_iso8601"', id: '"$request_id"', listener: '"$server_name"', client: '"$remote_addr"', peer: '""', method: '"$request_method"',
  scheme: '"$scheme"', host: '"$http_host"', path: '"$uri"', query: '"$args"', proto: '"$server_protocol"', tls: '"$ssl_protocol"',
  sni: '"$ssl_server_name"', alpn: '"$ssl_alpn_protocol"', status: '$status', flag: '"-"',
  bytes_in: '$request_length', bytes_out: '$body_bytes_sent', dur_ms: '$request_time', ttfb_ms: '"$upstream_header_time"',
  upstream: '"$upstream_addr"', up_status: '"$upstream_status"', up_connect_ms: '"$upstream_connect_time"',
  up_ttfb_ms: '"$upstream_response_time"', attempts: '1', reused: 'true', limit: '""', ua: '"$http_user_agent"',
  referer: '"$http_referer"', worker: '"$pid"', gen: '1', err: '""',
}

function nginxLog(place: Place): string {
  const fields = Object.entries(LOG_FIELDS).map(([name, value]) => `"${name}":${value}`).join(',')
  return `log_format fields escape=json '{${fields}}';\n  access_log ${logFile(place.folder)} fields;`
}

/** Debian's nginx.conf with the one location that makes it a proxy; nothing else is said. */
export function nginxDefaultConfig(place: Place): string {
  return `${runAs()}daemon off;
worker_processes auto;
pid ${place.folder}/pid;
error_log ${place.folder}/error.log;
events { worker_connections 768; }
http {
  sendfile on;
  tcp_nopush on;
  types_hash_max_size 2048;
  default_type application/octet-stream;
  access_log ${logFile(place.folder)};
  gzip on;
  ${temporaryPaths(place.folder)}
  server {
    listen 127.0.0.1:${place.listenPort};
    location / { proxy_pass http://127.0.0.1:${place.originPort}; }
  }
}
`
}

/** Debian's haproxy.cfg, its log on stdout where no syslog runs, with one frontend and one backend. */
export function haproxyDefaultConfig(place: Place): string {
  return `global
  log stdout format raw local0
  stats timeout 30s
defaults
  log global
  mode http
  option httplog
  option dontlognull
  timeout connect 5000
  timeout client 50000
  timeout server 50000
frontend bench
  bind 127.0.0.1:${place.listenPort}
  default_backend origin
backend origin
  server origin 127.0.0.1:${place.originPort}
`
}

export function haproxyConfig(place: Place): string {
  const alpn = ` alpn ${place.http2 ? 'h2,' : ''}http/1.1`
  const tls = place.tls === null ? '' : ` ssl crt ${place.tls.bothFile} ssl-min-ver TLSv1.2 ciphersuites ${CIPHER_SUITES}${alpn}`
  const originPort = place.originHttp2Port ?? place.originPort, protocol = place.originHttp2Port === null ? '' : ' proto h2'
  const toOrigin = place.originCaFile === null ? ''
    : ` ssl verify required ca-file ${place.originCaFile} sni str(${ORIGIN_NAME}) verifyhost ${ORIGIN_NAME}`
  return `global
  nbthread 1
  maxconn 9000
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  option http-keep-alive
  http-reuse always
frontend bench
  bind 127.0.0.1:${place.listenPort}${tls} backlog 4096
  option forwardfor
  http-request set-header X-Forwarded-Proto ${place.tls === null ? 'http' : 'https'}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Request-Id %[uuid()]
  http-request add-header Via "1.1 haproxy"
  http-response add-header Via "1.1 haproxy"
  default_backend origin
backend origin
  server origin 127.0.0.1:${originPort} pool-max-conn 1024 pool-purge-delay 1h${toOrigin}${protocol}
`
}

export function caddyConfig(place: Place): string {
  return `{
  admin off
  auto_https off
  log {
    level ERROR
  }
}
http://:${place.listenPort} {
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:${place.originPort} {
    header_up X-Request-Id {http.request.uuid}
    header_up Via "1.1 caddy"
    header_down +Via "1.1 caddy"
    transport http {
      keepalive 1h
      keepalive_idle_conns 1024
      keepalive_idle_conns_per_host 1024
      compression off
    }
  }
}
`
}

function nginx(name: string, config: (place: Place) => string, { onlyWhereNamed = false, speaksAll = false } = {}): Contender {
  return {
    name,
    kind: 'native',
    onlyWhereNamed,
    missing: () => missingProgram('nginx'),
    speaksTls: () => speaksAll,
    speaksHttp2: () => speaksAll,
    launch(place) {
      return { command: 'nginx', args: ['-p', place.folder, '-c', writeConfig(place, 'nginx.conf', config(place))] }
    },
  }
}

function haproxy(name: string, config: (place: Place) => string, speaksAll: () => boolean): Contender {
  return {
    name,
    kind: 'native',
    onlyWhereNamed: false,
    missing: () => missingProgram('haproxy'),
    speaksTls: speaksAll,
    speaksHttp2: speaksAll,
    launch(place) {
      const file = writeConfig(place, 'haproxy.cfg', config(place))
      return { command: 'haproxy', args: ['-db', '-f', file], stdoutFile: logFile(place.folder) }
    },
  }
}

const caddy: Contender = {
  name: 'caddy',
  kind: 'native',
  onlyWhereNamed: false,
  missing: () => missingProgram('caddy'),
  speaksTls: never,
  speaksHttp2: never,
  launch(place) {
    const config = writeConfig(place, 'Caddyfile', caddyConfig(place))
    const env = { GOMAXPROCS: '1', HOME: place.folder, XDG_DATA_HOME: place.folder, XDG_CONFIG_HOME: place.folder }
    return { command: 'caddy', args: ['run', '--adapter', 'caddyfile', '--config', config], env }
  },
}

function nodeProxy(name: string, packageName: string | null, file: string): Contender {
  return {
    name,
    kind: 'node',
    onlyWhereNamed: false,
    missing() {
      return packageName === null || existsSync(path.join(checkout, 'node_modules', packageName)) ? null : 'not installed'
    },
    speaksTls: never,
    speaksHttp2: never,
    launch(place) {
      const env = { ...portVariables(place), NODE_ENV: 'production' }
      return { command: process.execPath, args: [path.join(benchFolder, 'node-proxies', file)], env }
    },
  }
}

export interface ContenderOptions {
  readonly form: CirqueForm
  readonly profile: boolean
  /** Another checkout to run as `cirque-before`, or null. */
  readonly against: string | null
}

export function contendersFor(options: ContenderOptions): Contender[] {
  const list = cirques(checkout, '', options)
  if (options.against !== null) list.push(...cirques(path.resolve(options.against), BEFORE_SUFFIX, options))
  list.push(
    nginx(NGINX, (place) => nginxConfig(place, ''), { speaksAll: true }),
    nginx('nginx-large-buffers', (place) => nginxConfig(place, NGINX_LARGE_BUFFERS), { speaksAll: true }),
    nginx(NGINX_LOG, (place) => nginxConfig(place, '', { log: true })),
    nginx(NGINX_TWO, (place) => nginxConfig(place, '', { workers: 2, log: true }), { onlyWhereNamed: true }),
    // 768 connections in all, half of them to the origin.
    { ...nginx('nginx-default', nginxDefaultConfig), connectionsMax: 380 },
    haproxy('haproxy', haproxyConfig, always), haproxy('haproxy-default', haproxyDefaultConfig, never), caddy,
    nodeProxy('node:http', null, 'node-http.ts'),
    nodeProxy('fast-proxy', 'fast-proxy', 'fast-proxy.ts'),
    nodeProxy('@fastify/http-proxy', '@fastify/http-proxy', 'fastify-http-proxy.ts'),
    nodeProxy('http-proxy-3', 'http-proxy-3', 'http-proxy-3.ts'),
  )
  return list
}

/**
 * Cirque as it comes, with two workers, the same with a spare for each, and the nginx beside them: what happens when all
 * that serve are killed.
 */
export const CIRQUE_TWO = 'cirque-two'
export const CIRQUE_SPARE = 'cirque-spare'
export const NGINX_TWO = 'nginx-two'

/** Every form of Cirque, from one checkout. */
function cirques(root: string, suffix: string, { form, profile }: ContenderOptions): Contender[] {
  return [
    cirque(`${AFTER}${suffix}`, root, form, profile),
    cirqueTold(`${AFTER}-log${suffix}`, root, profile, logTold),
    cirqueTold(`${AFTER}-bare${suffix}`, root, profile, () => ({ CIRQUE_SUPERVISOR_METRICS: 'false' })),
    cirqueTold(`${AFTER}-traces${suffix}`, root, profile, tracesTold),
    cirqueDefault(`${AFTER}-default${suffix}`, root, { workers: 1, onlyWhereNamed: false }),
    cirqueDefault(`${CIRQUE_TWO}${suffix}`, root, { workers: 2, onlyWhereNamed: true }),
    cirqueDefault(`${CIRQUE_SPARE}${suffix}`, root, { workers: 2, onlyWhereNamed: true, env: { CIRQUE_SUPERVISOR_SPARE_WORKERS: '2' } }),
  ]
}
