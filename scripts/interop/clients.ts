/** Programs that are tried, each with how it is told to do one thing. What it does is counted at the edge. */
import { spawn, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { InteropEdge } from './edge.ts'

export type Check = 'get' | 'post' | 'keep-alive' | 'resumption'
export const CHECKS: readonly Check[] = ['get', 'post', 'keep-alive', 'resumption']

export interface Client {
  readonly name: string
  /** Programs that it takes. */
  readonly programs: readonly string[]
  /** Its version, as it says it. */
  version(): string
  /** Once, before anything is counted. */
  prepare?(folder: string): Promise<void>
  /** @throws what went wrong */
  run(check: Check, edge: InteropEdge, folder: string): Promise<void>
}

const HERE = import.meta.dirname
const LIMIT_MS = 60_000
const BODY = 'cirque '.repeat(20_000)

export interface Output { readonly stdout: string; readonly stderr: string }

export interface RunOptions {
  /** For its stdin. @default nothing */
  readonly input?: string
  /** How long its stdin stays open behind that, in ms. @default 0 */
  readonly holdMs?: number
  /** Longest time that it has, in ms. @default 60_000 */
  readonly limitMs?: number
  /** Whether every exit code will do. @default false */
  readonly anyCode?: boolean
}

/** @throws when it fails, or takes too long */
export function runProgram(command: string, args: readonly string[], options: RunOptions = {}): Promise<Output> {
  const { input = '', holdMs = 0, limitMs = LIMIT_MS, anyCode = false } = options
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], cwd: HERE })
    let stdout = '', stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => { stdout += text })
    child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
    child.stdin.on('error', () => { /* It has ended before it had all. */ })
    child.stdin.write(input)
    const ending = setTimeout(() => child.stdin.end(), holdMs)
    const late = setTimeout(() => child.kill('SIGKILL'), limitMs)
    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(ending)
      clearTimeout(late)
      const said = (stderr + stdout).trim().split('\n').slice(-3).join('; ')
      if (code === 0 || (anyCode && code !== null)) resolve({ stdout, stderr })
      else reject(new Error(`${path.basename(command)} ended with ${signal ?? code}: ${said}`))
    })
  })
}

function firstLine(command: string, ...args: string[]): string {
  const { stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  return `${stdout}${stderr}`.split('\n')[0]!.trim()
}

function fail(text: string): never { throw new Error(text) }

const curl: Client = {
  name: 'curl',
  programs: ['curl'],
  version: () => firstLine('curl', '--version').split(' ').slice(0, 2).join(' '),
  async run(check, { port, closingPort, caFile }, folder) {
    const url = `https://localhost:${check === 'resumption' ? closingPort : port}`
    const common = ['--silent', '--show-error', '--fail', '--cacert', caFile]
    const many = Array.from({ length: check === 'keep-alive' ? 5 : 2 }, (_, index) => `${url}/?${index}`)
    if (check === 'get') await runProgram('curl', [...common, url])
    else if (check === 'post') {
      const file = path.join(folder, 'body')
      writeFileSync(file, BODY)
      const { stdout } = await runProgram('curl', [...common, '--data-binary', `@${file}`, `${url}/echo`])
      if (stdout !== BODY) fail('another body came back')
    } else await runProgram('curl', [...common, ...many])
  },
}

/** Behind the last request, so that the answer comes before stdin ends, which ends the client. */
const ANSWER_MS = 1_500

const openssl: Client = {
  name: 'openssl s_client',
  programs: ['openssl'],
  version: () => firstLine('openssl', 'version').split(' ').slice(0, 2).join(' '),
  async run(check, { port, caFile }, folder) {
    const session = path.join(folder, 'session.pem')
    const connect = [
      's_client', '-quiet', '-connect', `localhost:${port}`, '-servername', 'localhost', '-CAfile', caFile, '-verify_return_error',
    ]
    const request = (more: string, start = 'GET / HTTP/1.1'): string => `${start}\r\nHost: localhost\r\n${more}\r\n`
    const ask = async (input: string, answers: number, ...more: string[]): Promise<void> => {
      const { stdout } = await runProgram('openssl', [...connect, ...more], { input, holdMs: ANSWER_MS })
      const found = stdout.split('HTTP/1.1 200 ').length - 1
      if (found !== answers) fail(`${found} answers instead of ${answers}`)
    }
    const last = request('Connection: close\r\n')
    if (check === 'get') await ask(last, 1)
    else if (check === 'post') await ask(`${request('Connection: close\r\nContent-Length: 6\r\n', 'POST /echo HTTP/1.1')}cirque`, 1)
    else if (check === 'keep-alive') await ask(request('').repeat(4) + last, 5)
    else {
      await ask(last, 1, '-sess_out', session)
      await ask(last, 1, '-sess_in', session)
    }
  },
}

const PYTHON_VERSION = 'import ssl, sys; print("Python", sys.version.split()[0] + ",", *ssl.OPENSSL_VERSION.split()[:2])'

const python: Client = {
  name: 'Python ssl',
  programs: ['python3'],
  version: () => firstLine('python3', '-c', PYTHON_VERSION),
  run: async (check, { port, caFile }) => { await runProgram('python3', ['client.py', check, String(port), caFile]) },
}

const go: Client = {
  name: 'Go net/http',
  programs: ['go'],
  version: () => firstLine('go', 'version').split(' ').slice(1, 3).join(' ').replace('version ', ''),
  prepare: async folder => { await runProgram('go', ['build', '-o', path.join(folder, 'go-client'), 'client.go']) },
  run: async (check, { port, caFile }, folder) => { await runProgram(path.join(folder, 'go-client'), [check, String(port), caFile]) },
}

const java: Client = {
  name: 'Java HttpClient',
  programs: ['java', 'javac'],
  version: () => firstLine('java', '-version').replaceAll('"', ''),
  prepare: async folder => { await runProgram('javac', ['-d', folder, 'Client.java']) },
  run: async (check, { port, caFile }, folder) => { await runProgram('java', ['-cp', folder, 'Client', check, String(port), caFile]) },
}

/** Of its log: IANA's number of X25519MLKEM768. */
const HYBRID_GROUP = 0x11EC

const chromium: Client = {
  name: 'Chromium',
  programs: ['chromium'],
  version: () => firstLine('chromium', '--version').split(' ').slice(0, 2).join(' '),
  async run(check, { port, closingPort }, folder) {
    const url = `https://localhost:${check === 'resumption' ? closingPort : port}`
    const log = path.join(folder, 'netlog.json'), profile = path.join(folder, `chromium-${check}`)
    const { stdout } = await runProgram('chromium', [
      '--headless', '--no-sandbox', '--disable-gpu', '--ignore-certificate-errors', `--user-data-dir=${profile}`,
      '--virtual-time-budget=10000', `--log-net-log=${log}`, '--dump-dom', `${url}/browser`,
    ])
    const [, done = ''] = /<pre id="out">(.*?)<\/pre>/.exec(stdout) ?? []
    if (done !== 'get 200, post 200 true, done') fail(`the page says '${done}'`)
    const groups = [...readFileSync(log, 'utf8').matchAll(/"key_exchange_group":(\d+)/g)].map(([, group]) => Number(group))
    if (!groups.includes(HYBRID_GROUP)) fail(`groups ${[...new Set(groups)].join(', ')}: no hybrid one`)
  },
}

/** OpenSSL 3.5, which is in Node.js: the one that tells which group it was. */
const node: Client = {
  name: 'Node.js https',
  programs: [],
  version: () => `Node.js ${process.versions.node}, OpenSSL ${process.versions.openssl}`,
  run: async (check, { port, caFile }) => { await runProgram(process.execPath, ['client.ts', check, String(port), caFile]) },
}

export const CLIENTS: readonly Client[] = [curl, openssl, python, go, java, chromium, node]
