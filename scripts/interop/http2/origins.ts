/** Origins of HTTP/2 that are tried, each with how it is started on a port of its own, in the clear or with a certificate. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import http2, { type Http2SecureServer, type Http2Server, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { freePorts, ManagedProcess, waitUntilListening } from '../../bench/managed-process.ts'
import { firstLine, goVersion, makeGoPrograms } from './clients.ts'
import { DOWNLOAD_BYTES, PIECE_BYTES } from './judge.ts'

export interface OriginPlace {
  /** For its configuration. */
  readonly folder: string
  /** What it serves: `index.html`, `download` and `piece`. */
  readonly documents: string
  readonly port: number
  /** null: in the clear, by prior knowledge. */
  readonly tls: { readonly certFile: string; readonly keyFile: string } | null
  /** For what is made once and kept. */
  readonly kept: string
}

export interface Origin {
  readonly name: string
  /** Programs that it takes. */
  readonly programs: readonly string[]
  /** Whether the body of a request comes back; else how long it was. */
  readonly echoes: boolean
  /** Whether it says in `x-seen` which version of HTTP a request had. */
  readonly tellsVersion: boolean
  version(): string
  /** Once. @throws Unavailable when what it takes cannot be had */
  prepare?(kept: string): Promise<void>
  /** Resolves when it listens. @returns what ends it */
  start(place: OriginPlace): Promise<() => Promise<void>>
}

/** Readable for all: some serve as another user than they were started by. */
export function writeDocuments(folder: string): void {
  mkdirSync(folder, { recursive: true })
  chmodSync(path.dirname(folder), 0o755)
  chmodSync(folder, 0o755)
  writeFileSync(path.join(folder, 'index.html'), 'hello\n')
  writeFileSync(path.join(folder, 'download'), Buffer.alloc(DOWNLOAD_BYTES, 'cirque '))
  writeFileSync(path.join(folder, 'piece'), Buffer.alloc(PIECE_BYTES, 'cirque '))
}

async function startProgram(name: string, port: number, command: string, args: readonly string[]): Promise<() => Promise<void>> {
  const program = new ManagedProcess(name, { command, args }, null)
  await waitUntilListening(program, port)
  return () => program.stop()
}

const nghttpd: Origin = {
  name: 'nghttpd',
  programs: ['nghttpd'],
  echoes: true,
  tellsVersion: false,
  version: () => firstLine('nghttpd', '--version').split('/')[1] ?? '',
  start({ documents, port, tls }) {
    const args = ['--address=127.0.0.1', `--htdocs=${documents}`, '--echo-upload']
    const rest = tls === null ? ['--no-tls', String(port)] : [String(port), tls.keyFile, tls.certFile]
    return startProgram('nghttpd', port, 'nghttpd', [...args, ...rest])
  },
}

const nginx: Origin = {
  name: 'nginx',
  programs: ['nginx'],
  echoes: false,
  tellsVersion: true,
  version: () => firstLine('nginx', '-v').split('/')[1] ?? '',
  async start({ folder, documents, port, tls }) {
    const [countPort] = await freePorts(1) as [number], file = path.join(folder, 'nginx.conf')
    const certificate = tls === null ? '' : `ssl_certificate ${tls.certFile}; ssl_certificate_key ${tls.keyFile};`
    const paths = ['client_body', 'proxy', 'fastcgi', 'scgi', 'uwsgi'].map(name => `${name}_temp_path ${folder}/${name};`).join(' ')
    // `return` would answer at the head of a request; so the body is taken, and its length told by a server behind.
    writeFileSync(file, `
daemon off; worker_processes 1; pid ${folder}/pid; error_log stderr error;
${process.getuid?.() === 0 ? 'user root;' : ''}
events { worker_connections 512; }
http {
  access_log off; default_type application/octet-stream; client_max_body_size 0; ${paths}
  server {
    listen 127.0.0.1:${port}${tls === null ? '' : ' ssl'} http2;
    ${certificate}
    root ${documents};
    add_header X-Seen $server_protocol;
    location = /post { proxy_pass http://127.0.0.1:${countPort}; }
  }
  server { listen 127.0.0.1:${countPort}; return 200 $http_content_length; }
}
`)
    return await startProgram('nginx', port, 'nginx', ['-p', folder, '-c', file, '-e', 'stderr'])
  },
}

const APACHE_MODULES = '/usr/lib/apache2/modules'
/** Which of them has which directive, in the order in which they are loaded. */
const APACHE_LOADED = ['mpm_event', 'authz_core', 'headers', 'mime', 'dir', 'alias', 'cgid', 'http2']

const apache: Origin = {
  name: 'Apache',
  programs: ['apache2'],
  echoes: true,
  tellsVersion: true,
  version: () => /Apache\/(\S+)/.exec(firstLine('apache2', '-v'))?.[1] ?? '',
  async start({ folder, documents, port, tls }) {
    const file = path.join(folder, 'apache.conf'), script = path.join(folder, 'echo.sh')
    // Its mod_reflector answers at the head of a request in HTTP/2, with nothing.
    writeFileSync(script, "#!/bin/sh\nprintf 'Content-Type: application/octet-stream\\r\\n\\r\\n'\nexec cat\n", { mode: 0o755 })
    const loaded = tls === null ? APACHE_LOADED : [...APACHE_LOADED, 'socache_shmcb', 'ssl']
    writeFileSync(file, `
ServerRoot ${folder}
DefaultRuntimeDir ${folder}
PidFile ${folder}/apache.pid
ErrorLog ${folder}/apache.log
${loaded.map(name => `LoadModule ${name}_module ${APACHE_MODULES}/mod_${name}.so`).join('\n')}
${process.getuid?.() === 0 ? 'User www-data\nGroup www-data' : ''}
ServerName localhost
Listen 127.0.0.1:${port}
TypesConfig /dev/null
DocumentRoot ${documents}
DirectoryIndex index.html
Header always set X-Seen "expr=%{SERVER_PROTOCOL}"
ScriptSock ${folder}/cgi.sock
ScriptAlias "/post" "${script}"
${tls === null ? 'Protocols h2c http/1.1\nH2Direct on' : `Protocols h2 http/1.1
SSLEngine on
SSLCertificateFile ${tls.certFile}
SSLCertificateKeyFile ${tls.keyFile}`}
`)
    return await startProgram('apache2', port, 'apache2', ['-D', 'FOREGROUND', '-f', file])
  },
}

const go: Origin = {
  name: 'Go net/http',
  programs: ['go'],
  echoes: true,
  tellsVersion: true,
  version: goVersion,
  prepare: makeGoPrograms,
  start({ documents, port, tls, kept }) {
    const rest = tls === null ? [] : [tls.certFile, tls.keyFile]
    return startProgram('Go net/http', port, path.join(kept, 'go-origin'), [`127.0.0.1:${port}`, documents, ...rest])
  },
}

const node: Origin = {
  name: 'Node.js http2',
  programs: [],
  echoes: true,
  tellsVersion: true,
  version: () => process.versions.node,
  async start({ documents, port, tls }) {
    const server: Http2Server | Http2SecureServer = tls === null ? http2.createServer()
      : http2.createSecureServer({ cert: readFileSync(tls.certFile), key: readFileSync(tls.keyFile) })
    const sessions = new Set<http2.ServerHttp2Session>()
    server.on('session', (session: http2.ServerHttp2Session) => {
      sessions.add(session)
      session.once('close', () => sessions.delete(session))
    })
    server.on('stream', (stream: ServerHttp2Stream, fields: IncomingHttpHeaders) => answer(stream, fields, documents))
    await new Promise<void>(resolve => { server.listen(port, '127.0.0.1', resolve) })
    return async () => {
      for (const session of sessions) session.destroy()
      await new Promise(resolve => { server.close(resolve) })
    }
  },
}

function answer(stream: ServerHttp2Stream, { ':path': target }: IncomingHttpHeaders, documents: string): void {
  stream.on('error', () => { /* A client that left. */ })
  const head = { ':status': 200, 'x-seen': 'HTTP/2.0' }
  if (target !== '/post') {
    stream.respondWithFile(path.join(documents, target === '/' ? 'index.html' : target!.slice(1)), head)
    return
  }
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => { chunks.push(chunk) })
  // All at once: of answers that are piped, Node.js 26 ends some by RST_STREAM without END_STREAM, which are not whole (RFC 9113 8.1).
  stream.on('end', () => {
    stream.respond(head)
    stream.end(Buffer.concat(chunks))
  })
}

export const ORIGINS: readonly Origin[] = [nghttpd, nginx, node, go, apache]
