/**
 * The origin behind every contender: one nginx worker that answers from memory.
 * It shares the load generator's core, never the proxies' core.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { benchCertificates, CIPHER_SUITES } from './certificates.ts'
import { ManagedProcess, freePorts, temporaryFolder, waitUntilReady } from './managed-process.ts'
import { GRPC_PATH, grpcMessage, WORKLOADS } from './workloads.ts'

export interface Origin {
  readonly port: number
  /** The same over TLS. */
  readonly tlsPort: number
  /** The same in HTTP/2, in the clear and without HTTP/1: nginx 1.22 tells them apart by the listener alone. */
  readonly http2Port: number
  readonly process: ManagedProcess
  /** Connections that were accepted so far, the one that asks included. */
  accepted(): Promise<number>
}

/** The first of the three numbers in the third line of nginx's status page. */
export function parseAccepted(page: string): number {
  return Number(/^ (\d+) \d+ \d+ *$/m.exec(page)?.[1] ?? Number.NaN)
}

/** Started by root, nginx would serve as `nobody`, who may not read our temporary folders. */
export function runAs(): string {
  return process.getuid?.() === 0 ? 'user root;\n' : ''
}

/**
 * nginx must read an upload to its end before it answers; `return` alone would answer at the head. So `/up` buffers the
 * body and asks itself.
 */
export function originConfig(folder: string, ports: Pick<Origin, 'port' | 'tlsPort' | 'http2Port'>): string {
  const { certFile, keyFile } = benchCertificates().origin
  return `${runAs()}daemon off;
worker_processes 1;
pid ${folder}/pid;
error_log stderr error;
events { worker_connections 16384; }
http {
  access_log off;
  types { }
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  open_file_cache max=100;
  etag off;
  keepalive_timeout 1h;
  keepalive_time 24h;
  keepalive_requests 1000000000;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  scgi_temp_path ${folder}/scgi;
  uwsgi_temp_path ${folder}/uwsgi;
  upstream sink { server unix:${folder}/sink.sock; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen unix:${folder}/sink.sock;
    location / { return 200 "ok"; }
  }
  server {
    listen 127.0.0.1:${ports.port} backlog=4096;
    listen 127.0.0.1:${ports.tlsPort} ssl backlog=4096;
    listen 127.0.0.1:${ports.http2Port} http2 backlog=4096;
    http2_max_concurrent_streams 256;
    ssl_certificate ${certFile};
    ssl_certificate_key ${keyFile};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_prefer_server_ciphers on;
    ssl_conf_command Ciphersuites ${CIPHER_SUITES};
    root ${folder}/files;
    location = /80 { return 200 "${'x'.repeat(80)}"; }
    location = /1k { return 200 "${'x'.repeat(1000)}"; }
    # A file answers no POST but by this turn.
    location = ${GRPC_PATH} {
      error_page 405 =200 ${GRPC_PATH};
      default_type application/grpc;
      add_trailer grpc-status 0;
    }
    location = /status { stub_status; }
    location = /up {
      client_max_body_size 0;
      client_body_buffer_size 2m;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Connection "";
      proxy_http_version 1.1;
      proxy_method GET;
      proxy_pass http://sink/;
    }
  }
}
`
}

export async function startOrigin(core: number): Promise<Origin> {
  const folder = temporaryFolder()
  const [port = 0, tlsPort = 0, http2Port = 0] = await freePorts(3)
  mkdirSync(path.join(folder, 'files'))
  for (const workload of WORKLOADS) {
    if (workload.answerBytes > 1000) writeFileSync(path.join(folder, 'files', workload.path), Buffer.alloc(workload.answerBytes, 'x'))
  }
  mkdirSync(path.join(folder, 'files', path.dirname(GRPC_PATH)))
  writeFileSync(path.join(folder, 'files', GRPC_PATH), grpcMessage())
  const config = path.join(folder, 'nginx.conf')
  writeFileSync(config, originConfig(folder, { port, tlsPort, http2Port }))
  const process = new ManagedProcess('origin', { command: 'nginx', args: ['-p', folder, '-c', config] }, core)
  await waitUntilReady(process, port, '/80')
  const accepted = async (): Promise<number> => {
    const page = await fetch(`http://127.0.0.1:${port}/status`, { headers: { Connection: 'close' } })
    return parseAccepted(await page.text())
  }
  return { port, tlsPort, http2Port, process, accepted }
}
