/**
 * `npm run interop:grpc [-- FOLDER]`: the interoperability tests of gRPC's library for Go, its client and its server, through
 * examples/edge.ts, with TLS and without it in front and behind. The two programs are made by Go once and kept in FOLDER (default:
 * interop-results/grpc-go). Where neither they nor Go is there, it is a line that says SKIP. README.md says more.
 */
import { existsSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import { makeTestCa, writeCertificate } from '../../test/support/test-ca.ts'
import { alignedTable } from '../bench/aligned-table.ts'
import { checkout, missingProgram } from '../bench/contenders.ts'
import {
  freePorts, ManagedProcess, runToEnd, stopAll, stopEverything, temporaryFolder, waitUntilListening,
} from '../bench/managed-process.ts'
import { runProgram } from './clients.ts'

/** Its go.mod asks for Go 1.19, which Debian 12 has. */
const VERSION = 'v1.59.0'
const PROGRAMS = ['client', 'server'] as const

/** All of its cases that need no credentials of a cloud, and no balancer of its own. */
const CASES = [
  'empty_unary', 'large_unary', 'client_streaming', 'server_streaming', 'ping_pong', 'empty_stream', 'timeout_on_sleeping_server',
  'cancel_after_begin', 'cancel_after_first_response', 'status_code_and_message', 'special_status_message', 'custom_metadata',
  'unimplemented_method', 'unimplemented_service', 'rpc_soak', 'channel_soak',
]
const CASE_MAX_MS = 60_000

async function makePrograms(folder: string): Promise<void> {
  console.log(`making them of google.golang.org/grpc ${VERSION}; this takes minutes the first time`)
  const packages = PROGRAMS.map(program => `google.golang.org/grpc/interop/${program}@${VERSION}`)
  await runToEnd('go', { command: 'go', args: ['install', ...packages], env: { GOBIN: folder } }, null)
}

interface Way {
  readonly name: string
  readonly port: number
  readonly secure: boolean
}

/** A server and an edge in front of it. */
async function startWays(programs: string, own: string, secure: boolean): Promise<Way[]> {
  const ca = makeTestCa({ name: 'Cirque interop CA' }), name = secure ? 'TLS' : 'h2c', folder = path.join(own, name)
  mkdirSync(folder, { recursive: true })
  const { certFile, keyFile } = writeCertificate(folder, 'site', ca.issue({ names: ['localhost'], ips: ['127.0.0.1'] }))
  const { certFile: caFile } = writeCertificate(folder, 'ca', ca)
  const [originPort, plainPort, tlsPort] = await freePorts(3) as [number, number, number]
  const ofTls = secure ? ['-use_tls', '-tls_cert_file', certFile, '-tls_key_file', keyFile] : []
  const origin = new ManagedProcess(`server, ${name}`, {
    command: path.join(programs, 'server'), args: ['-port', String(originPort), ...ofTls],
  }, null)
  await waitUntilListening(origin, originPort)
  const env = {
    HTTP_PORT: String(plainPort), TLS_PORT: String(tlsPort), CERT_FILE: certFile, KEY_FILE: keyFile, ORIGIN_CA_FILE: caFile,
    ORIGIN: `${secure ? 'h2' : 'h2c'}://localhost:${originPort}`,
  }
  const args = ['run', path.join(checkout, 'examples/edge.ts'), '--state-dir', path.join(folder, 'state')]
  const edge = new ManagedProcess(`edge, ${name}`, { command: path.join(checkout, 'bin/cirque'), args, env }, null)
  await waitUntilListening(edge, plainPort)
  await waitUntilListening(edge, tlsPort)
  return [{ name: `h2c to ${name}`, port: plainPort, secure: false }, { name: `TLS to ${name}`, port: tlsPort, secure: true }]
}

/** What is wrong with a case; '': nothing. */
async function faultOf(programs: string, own: string, way: Way, name: string): Promise<string> {
  const caFile = path.join(own, way.name.endsWith('TLS') ? 'TLS' : 'h2c', 'ca.crt')
  const ofTls = way.secure ? ['-use_tls', '-use_test_ca', '-ca_file', caFile] : []
  const args = ['-server_host', 'localhost', '-server_port', String(way.port), '-test_case', name, ...ofTls]
  try {
    await runProgram(path.join(programs, 'client'), args, { limitMs: CASE_MAX_MS })
    return ''
  } catch (error) { return (error as Error).message }
}

async function main(given: string): Promise<boolean> {
  const folder = path.resolve(given)
  if (!PROGRAMS.every(program => existsSync(path.join(folder, program)))) {
    if (missingProgram('go') !== null) {
      console.log('SKIP gRPC for Go: go is not installed')
      return true
    }
    mkdirSync(folder, { recursive: true })
    await makePrograms(folder)
  }
  const own = temporaryFolder()
  try {
    const ways = [...await startWays(folder, own, false), ...await startWays(folder, own, true)]
    const rows: string[][] = [['case', ...ways.map(({ name }) => name)]]
    let isGood = true
    for (const name of CASES) {
      const row = [name]
      for (const way of ways) {
        const fault = await faultOf(folder, own, way, name)
        if (fault !== '') console.log(`FAIL ${name}, ${way.name}: ${fault}`)
        row.push(fault === '' ? 'ok' : 'FAIL')
        if (fault !== '') isGood = false
      }
      rows.push(row)
    }
    console.log(`\n${alignedTable(rows)}`)
    return isGood
  } finally {
    await stopAll()
  }
}

if (import.meta.main) {
  process.on('exit', stopEverything)
  process.exit(await main(process.argv[2] ?? 'interop-results/grpc-go') ? 0 : 1)
}
