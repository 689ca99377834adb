/**
 * Every proxy that is compared, and how each one is started on a free port in front of the origin.
 * All are told the same things as far as they can be: HTTP/1.1 and keep-alive to the origin with room for 1024 idle
 * connections, no access log, an accept queue of 4096, one core, the forwarded fields that Cirque sends by default.
 * README.md says where they differ.
 */
import { accessSync, constants, existsSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { AFTER, BEFORE } from './comparison.ts'
import type { Launch } from './managed-process.ts'
import { runAs } from './origin.ts'

export interface Place {
  readonly originPort: number
  readonly listenPort: number
  /** A temporary folder of this contender's own. */
  readonly folder: string
}

export interface Contender {
  readonly name: string
  /** `node`: another proxy written for Node.js, for the target that compares with the best of them. */
  readonly kind: 'cirque' | 'native' | 'node'
  /** What is missing on this machine, or null. */
  missing(): string | null
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
function portVariables(place: Place): Record<string, string> {
  return { BENCH_ORIGIN_PORT: String(place.originPort), BENCH_LISTEN_PORT: String(place.listenPort) }
}

function missingFile(file: string): string | null {
  return existsSync(file) ? null : `no ${path.relative(process.cwd(), file)} yet`
}

/** Cirque from `root`, which may be another checkout: that is how a change is compared with what was before it. */
function cirque(name: string, root: string, form: CirqueForm, profile: boolean): Contender {
  const app = path.join(root, 'scripts', 'bench', 'app.ts')
  return {
    name,
    kind: 'cirque',
    missing() {
      const program = form === 'supervised' ? missingFile(path.join(root, 'bin', 'cirque')) : null
      return missingFile(path.join(root, 'src', 'index.ts')) ?? missingFile(app) ?? program
    },
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

/** Large answers cost nginx several times less with large buffers; few installations set them, so that is a contender of its own. */
const NGINX_LARGE_BUFFERS = 'proxy_buffer_size 16k; proxy_buffers 16 64k; proxy_busy_buffers_size 128k; proxy_max_temp_file_size 0;'

/**
 * `extra` goes into the location. Uploads are streamed instead of buffered first: by default nginx writes each into a file,
 * which no other contender does.
 */
export function nginxConfig(place: Place, extra: string): string {
  const folder = place.folder
  return `${runAs()}daemon off;
worker_processes 1;
pid ${folder}/pid;
error_log stderr error;
events { worker_connections 16384; }
http {
  access_log off;
  keepalive_timeout 1h;
  keepalive_time 24h;
  keepalive_requests 1000000000;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  scgi_temp_path ${folder}/scgi;
  uwsgi_temp_path ${folder}/uwsgi;
  upstream origin {
    server 127.0.0.1:${place.originPort};
    keepalive 1024;
    keepalive_timeout 1h;
    keepalive_time 24h;
    keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:${place.listenPort} backlog=4096;
    client_max_body_size 0;
    location / {
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      ${extra}
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Request-Id $request_id;
      proxy_set_header Via "1.1 nginx";
      add_header Via "1.1 nginx";
    }
  }
}
`
}

export function haproxyConfig(place: Place): string {
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
  bind 127.0.0.1:${place.listenPort} backlog 4096
  option forwardfor
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Request-Id %[uuid()]
  http-request add-header Via "1.1 haproxy"
  http-response add-header Via "1.1 haproxy"
  default_backend origin
backend origin
  server origin 127.0.0.1:${place.originPort} pool-max-conn 1024 pool-purge-delay 1h
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

function nginx(name: string, extra: string): Contender {
  return {
    name,
    kind: 'native',
    missing: () => missingProgram('nginx'),
    launch(place) {
      return { command: 'nginx', args: ['-p', place.folder, '-c', writeConfig(place, 'nginx.conf', nginxConfig(place, extra))] }
    },
  }
}

const haproxy: Contender = {
  name: 'haproxy',
  kind: 'native',
  missing: () => missingProgram('haproxy'),
  launch(place) {
    return { command: 'haproxy', args: ['-db', '-f', writeConfig(place, 'haproxy.cfg', haproxyConfig(place))] }
  },
}

const caddy: Contender = {
  name: 'caddy',
  kind: 'native',
  missing: () => missingProgram('caddy'),
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
    missing() {
      return packageName === null || existsSync(path.join(checkout, 'node_modules', packageName)) ? null : 'not installed'
    },
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
  const list = [cirque(AFTER, checkout, options.form, options.profile)]
  if (options.against !== null) list.push(cirque(BEFORE, path.resolve(options.against), options.form, options.profile))
  list.push(
    nginx('nginx', ''), nginx('nginx-large-buffers', NGINX_LARGE_BUFFERS), haproxy, caddy,
    nodeProxy('node:http', null, 'node-http.ts'),
    nodeProxy('fast-proxy', 'fast-proxy', 'fast-proxy.ts'),
    nodeProxy('@fastify/http-proxy', '@fastify/http-proxy', 'fastify-http-proxy.ts'),
    nodeProxy('http-proxy-3', 'http-proxy-3', 'http-proxy-3.ts'),
  )
  return list
}
