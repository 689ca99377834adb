/**
 * `npm run interop:h2spec [-- FOLDER]`: h2spec against examples/edge.ts as it comes, in strict mode, over TLS and without it, twice each,
 * since a state that a first run left would show in the second. Its reports (JUnit) and its text are kept in FOLDER (default:
 * interop-results). Where it is not in the PATH it is a line that says SKIP: test/protocols/http2/conformance.test.ts has its cases.
 *
 * A port without TLS speaks HTTP/1 as well: what does not begin as HTTP/2 does is a request of that version to it, and is answered with
 * 400 before the connection is closed. h2spec expects no answer there; that case is judged by what came.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { makeTestCa, writeCertificate } from '../../test/support/test-ca.ts'
import { checkout, missingProgram } from '../bench/contenders.ts'
import { freePorts, ManagedProcess, stopAll, stopEverything, temporaryFolder, waitUntilReady } from '../bench/managed-process.ts'
import { exchange } from '../abuse/clients.ts'
import { runProgram } from './clients.ts'

const ROUNDS = 2
const RUN_MAX_MS = 300_000
/** Fewer cases than any of its versions has: the run broke off. */
const MIN_CASES = 140

export interface SpecResult {
  readonly cases: number
  readonly passed: number
  /** Section and title of each that did not pass. */
  readonly failed: readonly string[]
}

/** What a report says. */
export function readReport(xml: string): SpecResult {
  let cases = 0, passed = 0
  const failed: string[] = []
  for (const [, attributes = '', body = ''] of xml.matchAll(/<testcase ([^>]*?)(?:\/>|>(.*?)<\/testcase>)/gs)) {
    cases++
    const isPassed = !/<(?:failure|error|skipped)\b/.test(body)
    if (isPassed) passed++
    else failed.push(`${attributeOf(attributes, 'package')} ${attributeOf(attributes, 'classname')}`)
  }
  return { cases, passed, failed }
}

function attributeOf(attributes: string, name: string): string {
  return new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1]?.replaceAll('&#34;', '"').replaceAll('&amp;', '&') ?? ''
}

const OF_HTTP1 = /Sends invalid connection preface/

/**
 * What is wrong with a run.
 * @param answered what the port says to bytes that are no HTTP/2; '' over TLS, where that version was agreed on
 */
export function faultsOfRun({ cases, failed }: SpecResult, answered: string): readonly string[] {
  const faults = failed.filter(title => !(OF_HTTP1.test(title) && answered.startsWith('HTTP/1.1 400 ')))
  return cases < MIN_CASES ? [...faults, `only ${cases} cases were run`] : faults
}

async function main(folder: string): Promise<boolean> {
  if (missingProgram('h2spec') !== null) {
    console.log('SKIP h2spec: it is not installed')
    return true
  }
  mkdirSync(folder, { recursive: true })
  const own = temporaryFolder(), origin = http.createServer((request, response) => {
    request.resume().on('end', () => { response.end('an answer that is longer than a window of a few bytes') })
  })
  await new Promise<void>(resolve => { origin.listen(0, '127.0.0.1', resolve) })
  const [plainPort, tlsPort] = await freePorts(2) as [number, number]
  const { certFile, keyFile } = writeCertificate(own, 'site', makeTestCa().issue({ names: ['localhost'], ips: ['127.0.0.1'] }))
  const env = {
    HTTP_PORT: String(plainPort), TLS_PORT: String(tlsPort), CERT_FILE: certFile, KEY_FILE: keyFile,
    ORIGIN: `127.0.0.1:${(origin.address() as AddressInfo).port}`,
  }
  const args = ['run', path.join(checkout, 'examples/edge.ts'), '--state-dir', path.join(own, 'state')]
  const edge = new ManagedProcess('edge', { command: path.join(checkout, 'bin/cirque'), args, env }, null)
  try {
    await waitUntilReady(edge, plainPort, '/')
    const answered = await exchange(plainPort, 'INVALID CONNECTION PREFACE\r\n\r\n')
    let isGood = true
    for (let round = 1; round <= ROUNDS; round++) {
      for (const secure of [true, false]) {
        const result = await runSpec(secure ? tlsPort : plainPort, secure, path.join(folder, `h2spec-${secure ? 'tls' : 'h2c'}-${round}`))
        const faults = faultsOfRun(result, secure ? '' : answered), judged = result.failed.length - faults.length
        const aside = judged > 0 ? `, ${judged} answered as HTTP/1` : ''
        console.log(`${secure ? 'TLS' : 'h2c'}, run ${round}: ${result.passed} of ${result.cases} cases passed${aside}`)
        for (const fault of faults) console.log(`FAIL ${fault}`)
        if (faults.length > 0) isGood = false
      }
    }
    return isGood
  } finally {
    await stopAll()
    origin.close()
    origin.closeAllConnections()
  }
}

async function runSpec(port: number, secure: boolean, file: string): Promise<SpecResult> {
  const report = path.resolve(`${file}.xml`)
  rmSync(report, { force: true })
  const args = ['--strict', '--host', '127.0.0.1', '--port', String(port), '--junit-report', report]
  // Its exit code says that some failed; which ones stands in the report.
  const { stdout } = await runProgram('h2spec', secure ? [...args, '--tls', '--insecure'] : args, { limitMs: RUN_MAX_MS, anyCode: true })
  writeFileSync(`${file}.txt`, stdout)
  return readReport(readFileSync(report, 'utf8'))
}

if (import.meta.main) {
  process.on('exit', stopEverything)
  process.exit(await main(process.argv[2] ?? 'interop-results') ? 0 : 1)
}
