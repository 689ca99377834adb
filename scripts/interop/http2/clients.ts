/** Clients of HTTP/2 that are tried, each with how it is told to do one thing. What it does is counted at the edge. */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { runToEnd } from '../../bench/managed-process.ts'
import { runProgram } from '../clients.ts'
import { DOWNLOAD_BYTES, MANY, POST_BODY, requestsOf, TARGETS, type Check } from './judge.ts'
import { Http2Client } from './node-clients.ts'

export interface Place {
  /** `https://localhost:port`; by prior knowledge `http://localhost:port`. */
  readonly base: string
  readonly caFile: string
  /** For what is made for this run alone. */
  readonly folder: string
  /** For what is made once and kept. */
  readonly kept: string
}

export interface Client {
  readonly name: string
  /** Programs that it takes. */
  readonly programs: readonly string[]
  /** Whether it can by prior knowledge as well. */
  readonly inTheClear: boolean
  /** What it does, and shows. */
  readonly checks: readonly Check[]
  /** Requests before those that are at once: it dials for each until it knows that a connection can be shared. */
  readonly first: 0 | 1
  /** Its version, as it says it. */
  version(place: Pick<Place, 'kept'>): string
  /** Once, before anything is counted. @throws Unavailable when what it takes cannot be had */
  prepare?(place: Pick<Place, 'kept'>): Promise<void>
  /** Why this version of it cannot do something that others can; '': it can. */
  cannot?(check: Check, inTheClear: boolean): string
  /** @throws what went wrong */
  run(check: Check, place: Place): Promise<void>
}

/** It is not there, and cannot be had: a line that says SKIP. */
export class Unavailable extends Error {}

const HERE = import.meta.dirname
const REQUESTS: readonly Check[] = ['get', 'post', 'together', 'download']
const ALL: readonly Check[] = [...REQUESTS, 'hints', 'trailers']
const FETCH_MAX_MS = 180_000
export const POST_SHA256 = createHash('sha256').update(POST_BODY).digest('hex')

export function firstLine(command: string, ...args: string[]): string {
  const { stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  return `${stdout}${stderr}`.split('\n')[0]!.trim()
}

function fail(text: string): never { throw new Error(text) }

function bodyFile(folder: string): string {
  const file = path.join(folder, 'body')
  writeFileSync(file, POST_BODY)
  return file
}

function curlVersion(): string { return firstLine('curl', '--version').split(' ')[1] ?? '' }

const curl: Client = {
  name: 'curl',
  programs: ['curl'],
  inTheClear: true,
  checks: ALL,
  first: 0,
  version: curlVersion,
  cannot(check, inTheClear) {
    // On a connection that is used again it begins HTTP/2 once more, against any server (its pull request 10643).
    const isOld = Number.parseInt(curlVersion(), 10) < 8
    return check === 'together' && inTheClear && isOld ? 'by prior knowledge it shares no connection before 8.0' : ''
  },
  async run(check, { base, caFile, folder }) {
    const url = base + TARGETS[check], heads = path.join(folder, 'heads')
    const version = base.startsWith('https:') ? '--http2' : '--http2-prior-knowledge'
    const args = ['--silent', '--show-error', '--fail', version, '--cacert', caFile]
    if (check === 'together') {
      await runProgram('curl', [...args, '--parallel', '--parallel-max', String(MANY), ...Array.from({ length: MANY }, () => url)])
      return
    }
    if (check === 'post') args.push('--data-binary', `@${bodyFile(folder)}`)
    const { stdout } = await runProgram('curl', [...args, '--dump-header', heads, url])
    const lines = readFileSync(heads, 'latin1')
    if (check === 'post' && stdout !== POST_BODY) fail('another body came back')
    if (check === 'download' && stdout.length !== DOWNLOAD_BYTES) fail(`${stdout.length} bytes came`)
    if (check === 'hints' && !lines.startsWith('HTTP/2 103 ')) fail(`no 103: ${lines}`)
    if (check === 'trailers' && !lines.includes('\r\n\r\nx-sum: right')) fail(`no trailers: ${lines}`)
  },
}

const nghttp: Client = {
  name: 'nghttp',
  programs: ['nghttp'],
  inTheClear: true,
  checks: ALL,
  first: 0,
  version: () => firstLine('nghttp', '--version').split('/')[1] ?? '',
  async run(check, { base, folder }) {
    const url = base + TARGETS[check], args = ['--no-verify-peer']
    if (check === 'post' || check === 'download') {
      if (check === 'post') args.push('--data', bodyFile(folder))
      const { stdout } = await runProgram('nghttp', [...args, url])
      if (check === 'post' && stdout !== POST_BODY) fail('another body came back')
      if (check === 'download' && stdout.length !== DOWNLOAD_BYTES) fail(`${stdout.length} bytes came`)
      return
    }
    // It asks once for an address, however often it is named.
    const urls = Array.from({ length: requestsOf(check) }, (_, at) => check === 'together' ? `${url}?${at}` : url)
    const { stdout } = await runProgram('nghttp', [...args, '--null-out', '--verbose', ...urls])
    const statuses = [...stdout.matchAll(/:status: (\d+)/g)].map(([, status]) => status).join(' ')
    const wanted = [...check === 'hints' ? ['103'] : [], ...urls.map(() => '200')].join(' ')
    if (statuses !== wanted) fail(`statuses ${statuses} instead of ${wanted}`)
    if (check === 'trailers' && !stdout.includes('x-sum: right')) fail('no trailers')
  },
}

const h2load: Client = {
  name: 'h2load',
  programs: ['h2load'],
  inTheClear: true,
  checks: REQUESTS,
  first: 0,
  version: () => firstLine('h2load', '--version').split('/')[1] ?? '',
  async run(check, { base, folder }) {
    const count = requestsOf(check)
    const args = ['--requests', String(count), '--clients', '1', '--max-concurrent-streams', String(count)]
    if (check === 'post') args.push('--data', bodyFile(folder))
    const { stdout } = await runProgram('h2load', [...args, base + TARGETS[check]])
    const [, succeeded = '0'] = /, (\d+) succeeded, 0 failed, 0 errored, 0 timeout/.exec(stdout) ?? []
    if (Number(succeeded) !== count) fail(stdout.trim().split('\n').find(line => line.startsWith('requests:')) ?? 'it printed no result')
  },
}

const HTTPX = 'httpx[http2]==0.28.1'
const PYTHON_VERSION = 'import h2, httpx, sys; print(sys.version.split()[0] + ", httpx", httpx.__version__ + ", h2", h2.__version__)'

function pythonOf(kept: string): string { return path.join(kept, 'python/bin/python3') }

const python: Client = {
  name: 'Python httpx, h2',
  programs: ['python3'],
  inTheClear: true,
  checks: ALL,
  first: 0,
  version: ({ kept }) => firstLine(pythonOf(kept), '-c', PYTHON_VERSION),
  async prepare({ kept }) {
    const own = pythonOf(kept)
    if (existsSync(own) && spawnSync(own, ['-c', PYTHON_VERSION]).status === 0) return
    try {
      await runProgram('python3', ['-m', 'venv', path.join(kept, 'python')], { limitMs: FETCH_MAX_MS })
      await runProgram(own, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', HTTPX], { limitMs: FETCH_MAX_MS })
    } catch (error) { throw new Unavailable(`${HTTPX} cannot be had: ${(error as Error).message}`, { cause: error }) }
  },
  async run(check, { base, caFile, kept }) { await runProgram(pythonOf(kept), [path.join(HERE, 'client.py'), check, base, caFile]) },
}

/** Client and origin. @throws Unavailable without the modules that they take */
export async function makeGoPrograms(kept: string): Promise<void> {
  const cwd = path.join(HERE, 'go')
  mkdirSync(kept, { recursive: true })
  try {
    await runToEnd('go', { command: 'go', args: ['mod', 'download'], cwd }, null)
  } catch (error) { throw new Unavailable(`golang.org/x/net cannot be had: ${(error as Error).message}`, { cause: error }) }
  for (const program of ['client', 'origin']) {
    await runToEnd('go', { command: 'go', args: ['build', '-o', path.join(kept, `go-${program}`), `./${program}`], cwd }, null)
  }
}

export function goVersion(): string { return firstLine('go', 'version').split(' ')[2]?.replace('go', '') ?? '' }

const go: Client = {
  name: 'Go net/http',
  programs: ['go'],
  inTheClear: true,
  checks: ALL,
  first: 1,
  version: goVersion,
  prepare: ({ kept }) => makeGoPrograms(kept),
  async run(check, { base, caFile, kept }) { await runProgram(path.join(kept, 'go-client'), [check, base, caFile]) },
}

const java: Client = {
  name: 'Java HttpClient',
  programs: ['java', 'javac'],
  // There it asks for an upgrade from HTTP/1.1, which is no longer in HTTP/2 (RFC 9113 3.1), and not taken up here.
  inTheClear: false,
  checks: REQUESTS,
  first: 1,
  version: () => /"(.*)"/.exec(firstLine('java', '-version'))?.[1] ?? '',
  prepare: async ({ kept }) => { await runProgram('javac', ['-d', kept, path.join(HERE, 'Http2Client.java')]) },
  async run(check, { base, caFile, kept }) { await runProgram('java', ['-cp', kept, 'Http2Client', check, base, caFile]) },
}

const node: Client = {
  name: 'Node.js http2',
  programs: [],
  inTheClear: true,
  checks: ALL,
  first: 0,
  version: () => process.versions.node,
  async run(check, { base, caFile }) {
    const client = await Http2Client.connect(base, caFile)
    try {
      if (check === 'together') {
        // Its bodies are empty: Node.js has dropped a stream that ended by the time when others have their heads.
        const answers = await Promise.all(Array.from({ length: MANY }, () => client.ask(TARGETS.together)))
        const statuses = answers.map(({ status }) => status)
        if (statuses.some(status => status !== 200)) fail(`statuses ${statuses.join(' ')}`)
        return
      }
      const { status, sha256, bytes, interim, trailers } = await client.ask(TARGETS[check], check === 'post' ? POST_BODY : undefined)
      if (status !== 200) fail(`status ${status}`)
      if (check === 'post' && sha256 !== POST_SHA256) fail('another body came back')
      if (check === 'download' && bytes !== DOWNLOAD_BYTES) fail(`${bytes} bytes came`)
      if (check === 'hints' && interim.join() !== '103') fail(`1xx: ${interim.join()}`)
      if (check === 'trailers' && trailers['x-sum'] !== 'right') fail(`trailers: ${JSON.stringify(trailers)}`)
    } finally { client.close() }
  },
}

export const CLIENTS: readonly Client[] = [curl, nghttp, h2load, python, go, java, node]
