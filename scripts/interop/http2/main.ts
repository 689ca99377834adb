/**
 * `npm run interop:http2 [-- FOLDER]`: programs of others that speak HTTP/2, as clients of examples/edge.ts and as its origins, with TLS
 * and without it. What came in which version of HTTP, and over how many connections, is what the edge has counted. What takes long to
 * make is kept in FOLDER (default: interop-results/http2), and a picture of the page that a browser had. A program that is not there is a
 * line that says SKIP. README.md says more.
 */
import { createHash } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { makeTestCa, writeCertificate } from '../../../test/support/test-ca.ts'
import { alignedTable } from '../../bench/aligned-table.ts'
import { missingProgram } from '../../bench/contenders.ts'
import { freePorts, stopAll, stopEverything, temporaryFolder } from '../../bench/managed-process.ts'
import { chromiumVersion, runBrowser } from './browser.ts'
import { CLIENTS, POST_SHA256, Unavailable, type Client } from './clients.ts'
import { CountedEdge } from './counted-edge.ts'
import {
  CHECKS, DOWNLOAD_BYTES, faultOfClient, faultOfOrigin, faultOfPage, MANY, ORIGIN_CHECKS, PAGE_CHECKS, PIECE_BYTES, POST_BODY, requestsOf,
  type Check, type OriginCheck, type OriginRun, type PageCheck, type Version,
} from './judge.ts'
import { Http1Client, Http2Client, type Answer, type FrontClient } from './node-clients.ts'
import { ClientOrigin } from './origin.ts'
import { ORIGINS, writeDocuments, type Origin } from './origins.ts'

interface Setting {
  /** For this run alone. */
  readonly folder: string
  /** For what is made once and kept. */
  readonly kept: string
  readonly certFile: string
  readonly keyFile: string
  readonly caFile: string
}

interface Table {
  readonly rows: (readonly string[])[]
  isGood: boolean
}

const WAYS = [{ name: 'TLS', secure: true }, { name: 'h2c', secure: false }] as const
const TITLES: Readonly<Record<Check | PageCheck, string>> = {
  get: 'GET', post: 'POST', together: `${MANY} at once`, download: '5 MB', hints: '103', trailers: 'trailers',
  parts: '200 parts', webSocket: 'WebSocket', upload: 'upload',
}

/** @returns whether it can be tried; if not, and if it fails at once, that is told */
async function isThere(what: { name: string; programs: readonly string[]; prepare(): Promise<void> }, table: Table): Promise<boolean> {
  const missing = what.programs.find(program => missingProgram(program) !== null)
  if (missing !== undefined) {
    console.log(`SKIP ${what.name}: ${missing} is not installed`)
    return false
  }
  try {
    await what.prepare()
    return true
  } catch (error) {
    if (!(error instanceof Unavailable)) table.isGood = false
    console.log(`${error instanceof Unavailable ? 'SKIP' : 'FAIL'} ${what.name}: ${(error as Error).message}`)
    return false
  }
}

/** A cell for what came of something. */
function cell(what: string, fault: string, table: Table): string {
  if (fault === '') return 'ok'
  console.log(`FAIL ${what}: ${fault}`)
  table.isGood = false
  return 'FAIL'
}

async function tryClients(setting: Setting, table: Table): Promise<void> {
  const origin = await ClientOrigin.start()
  const edge = await CountedEdge.start({ ...setting, folder: path.join(setting.folder, 'clients'), origin: `127.0.0.1:${origin.port}` })
  table.rows.push(['client', 'version', 'over', ...CHECKS.map(check => TITLES[check])])
  for (const client of CLIENTS) {
    const { name, programs } = client
    if (!await isThere({ name, programs, prepare: async () => { await client.prepare?.(setting) } }, table)) continue
    for (const { name: over, secure } of WAYS) {
      if (!secure && !client.inTheClear) continue
      const base = secure ? `https://localhost:${edge.tlsPort}` : `http://localhost:${edge.plainPort}`, cells: string[] = []
      for (const check of CHECKS) {
        const what = `${name} over ${over}, ${TITLES[check]}`, reason = client.cannot?.(check, !secure) ?? ''
        if (reason !== '') console.log(`SKIP ${what}: ${reason}`)
        if (reason !== '' || !client.checks.includes(check)) cells.push('-')
        else cells.push(cell(what, await tryClient(client, check, { ...setting, base }, edge), table))
      }
      table.rows.push([name, client.version(setting), over, ...cells])
    }
  }
  await tryBrowser(setting, edge, origin, table)
  await edge.stop()
  origin.stop()
}

async function tryClient(client: Client, check: Check, place: Setting & { base: string }, edge: CountedEdge): Promise<string> {
  let fault = ''
  try { await client.run(check, place) } catch (error) { fault = (error as Error).message }
  const first = check === 'together' ? client.first : 0
  const seen = await edge.take(fault === '' ? requestsOf(check) + first : null)
  return bothFaults(fault, faultOfClient(check, place.base.startsWith('https:'), seen))
}

/** What a client says is only the half of it. */
function bothFaults(ofClient: string, ofEdge: string): string {
  return ofClient === '' || ofEdge === '' ? ofClient || ofEdge : `${ofClient}; at the edge: ${ofEdge}`
}

async function tryBrowser(setting: Setting, edge: CountedEdge, origin: ClientOrigin, table: Table): Promise<void> {
  const there = { name: 'Chromium', programs: ['chromium'], prepare: () => Promise.resolve() }
  if (!await isThere(there, table)) return
  const cells = new Map<string, string>()
  try {
    const { report, seen, screenshot } = await runBrowser(edge, origin, setting)
    console.log(`Chromium: ${seen.requests.length} requests over ${seen.connections} connection; in ${path.relative('', screenshot)}`)
    for (const check of PAGE_CHECKS) {
      console.log(`  ${TITLES[check]}: ${report[check] ?? 'nothing was said'}`)
      cells.set(check, cell(`Chromium, ${TITLES[check]}`, faultOfPage(check, report, seen), table))
    }
  } catch (error) {
    for (const check of PAGE_CHECKS) cells.set(check, 'FAIL')
    cell('Chromium', (error as Error).message, table)
  }
  const version = chromiumVersion()
  table.rows.push(['Chromium', version, 'TLS', ...CHECKS.map(check => cells.get(check) ?? '-')])
  const more = PAGE_CHECKS.filter(check => !(CHECKS as readonly string[]).includes(check))
  const rows = [['browser', ...more.map(check => TITLES[check])], ['Chromium', ...more.map(check => cells.get(check)!)]]
  console.log(`\n${alignedTable(rows)}`)
}

async function tryOrigins(setting: Setting, table: Table): Promise<void> {
  const documents = path.join(setting.folder, 'documents')
  writeDocuments(documents)
  table.rows.push(['origin', 'version', 'over', 'clients', ...ORIGIN_CHECKS.map(check => TITLES[check]), 'new connections'])
  for (const origin of ORIGINS) {
    const { name, programs } = origin
    if (!await isThere({ name, programs, prepare: async () => { await origin.prepare?.(setting.kept) } }, table)) continue
    for (const { name: over, secure } of WAYS) {
      const folder = path.join(setting.folder, `${name.replaceAll(/\W/g, '-')}-${over}`), [port] = await freePorts(1) as [number]
      mkdirSync(folder, { recursive: true })
      try {
        const stop = await origin.start({ ...setting, folder, documents, port, tls: secure ? setting : null })
        const edge = await CountedEdge.start({ ...setting, folder, origin: `${secure ? 'h2' : 'h2c'}://127.0.0.1:${port}` })
        table.rows.push(...await tryOrigin(origin, { over, secure, edge, caFile: setting.caFile }, table))
        await edge.stop()
        await stop()
      } catch (error) { cell(`${name} over ${over}`, (error as Error).message, table) }
    }
  }
}

interface OriginWay {
  readonly over: string
  readonly secure: boolean
  readonly edge: CountedEdge
  readonly caFile: string
}

async function tryOrigin(origin: Origin, { over, secure, edge, caFile }: OriginWay, table: Table): Promise<string[][]> {
  const base = secure ? `https://localhost:${edge.tlsPort}` : `http://localhost:${edge.plainPort}`, rows: string[][] = []
  for (const version of ['HTTP/1.1', 'HTTP/2'] as const) {
    const cells: string[] = []
    let dials = 0
    for (const check of ORIGIN_CHECKS) {
      const client = await clientOf(version, base, caFile)
      let fault = ''
      try { fault = await askOrigin(origin, check, client) } catch (error) { fault = (error as Error).message }
      client.close()
      const seen = await edge.take(fault === '' ? requestsOf(check) : null)
      const run: OriginRun = { check, version, secure, echoes: origin.echoes }
      dials += seen.dials
      cells.push(cell(`${origin.name} over ${over}, ${version}, ${TITLES[check]}`, bothFaults(fault, faultOfOrigin(run, seen)), table))
    }
    rows.push([origin.name, origin.version(), over, version, ...cells, String(dials)])
  }
  return rows
}

async function clientOf(version: Version, base: string, caFile: string): Promise<FrontClient> {
  return version === 'HTTP/1.1' ? new Http1Client(base, caFile) : await Http2Client.connect(base, caFile)
}

const DOCUMENT_SHA256 = { download: patternSha256(DOWNLOAD_BYTES), together: patternSha256(PIECE_BYTES) }

function patternSha256(bytes: number): string { return createHash('sha256').update(Buffer.alloc(bytes, 'cirque ')).digest('hex') }

/** @returns what is wrong with its answers; '': nothing */
async function askOrigin(origin: Origin, check: OriginCheck, client: FrontClient): Promise<string> {
  const wrong = (asked: readonly Answer[]): string => {
    const isSeen = ({ fields }: Answer): boolean => !origin.tellsVersion || fields['x-seen'] === 'HTTP/2.0'
    const other = asked.find(answer => answer.status !== 200 || !isSeen(answer))
    return other === undefined ? '' : `status ${other.status}, seen as ${String(other.fields['x-seen'])}`
  }
  if (check === 'together') {
    const answers = await client.together('/piece', MANY)
    return wrong(answers) || (answers.every(({ sha256 }) => sha256 === DOCUMENT_SHA256.together) ? '' : 'another body came')
  }
  const answer = await client.ask({ get: '/', post: '/post', download: '/download' }[check], check === 'post' ? POST_BODY : undefined)
  if (wrong([answer]) !== '') return wrong([answer])
  if (check === 'get') return answer.text === 'hello\n' ? '' : 'another body came'
  if (check === 'download') return answer.sha256 === DOCUMENT_SHA256.download ? '' : 'another body came'
  if (!origin.echoes) return answer.text === String(POST_BODY.length) ? '' : `${answer.text} bytes arrived`
  return answer.sha256 === POST_SHA256 ? '' : 'another body came back'
}

async function main(given: string): Promise<boolean> {
  const kept = path.resolve(given), folder = temporaryFolder(), ca = makeTestCa({ name: 'Cirque interop CA' })
  mkdirSync(kept, { recursive: true })
  const { certFile, keyFile } = writeCertificate(folder, 'site', ca.issue({ names: ['localhost'], ips: ['127.0.0.1'] }))
  const { certFile: caFile } = writeCertificate(folder, 'ca', ca)
  const setting: Setting = { folder, kept, certFile, keyFile, caFile }
  const clients: Table = { rows: [], isGood: true }, origins: Table = { rows: [], isGood: true }
  try {
    await tryClients(setting, clients)
    console.log(`\n${alignedTable(clients.rows)}\n`)
    await tryOrigins(setting, origins)
    console.log(`\n${alignedTable(origins.rows)}`)
    return clients.isGood && origins.isGood
  } finally {
    await stopAll()
  }
}

if (import.meta.main) {
  process.on('exit', stopEverything)
  process.exit(await main(process.argv[2] ?? 'interop-results/http2') ? 0 : 1)
}
