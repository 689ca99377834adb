/** Chromium at the page for browsers: what the page says, and what the edge has counted while it was open. */
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { runProgram } from '../clients.ts'
import { firstLine, type Place } from './clients.ts'
import type { CountedEdge, Seen } from './counted-edge.ts'
import { MANY, PARTS, type PageReport } from './judge.ts'
import type { ClientOrigin } from './origin.ts'

/** The page and its style, what is asked for one by one, the report and the picture that waits for it, the icon. */
const SINGLE_REQUESTS = 10
const LIMIT_MS = 60_000

export function chromiumVersion(): string {
  return firstLine('sh', '-c', 'chromium --version 2>/dev/null').split(' ')[1] ?? ''
}

export interface BrowserRun {
  readonly report: PageReport
  readonly seen: Seen
  readonly screenshot: string
}

/**
 * Its connections are counted from when the page was asked for, with the one by which that was: a browser dials twice for a first page,
 * and closes the connection that it has no use for.
 */
export async function runBrowser(
  edge: CountedEdge, origin: ClientOrigin, { folder, kept }: Pick<Place, 'folder' | 'kept'>,
): Promise<BrowserRun> {
  let opened = 0, left = 0
  origin.onPage = async () => {
    await edge.oneConnection()
    opened = 1
    await edge.take(0)
  }
  origin.onReport = async () => { left = await edge.openConnections() }
  const screenshot = path.resolve(kept, 'chromium.png')
  mkdirSync(kept, { recursive: true })
  await runProgram('chromium', [
    '--headless', '--no-sandbox', '--disable-gpu', '--ignore-certificate-errors', '--window-size=900,520',
    '--disable-background-networking', '--disable-component-update', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost',
    `--user-data-dir=${path.join(folder, 'chromium')}`, `--screenshot=${screenshot}`, `https://localhost:${edge.tlsPort}/browser`,
  ], { limitMs: LIMIT_MS })
  const seen = await edge.take(PARTS + MANY + SINGLE_REQUESTS)
  const connections = seen.connections + opened
  const report = await Promise.race([origin.report, Promise.resolve('{}')])
  return { report: JSON.parse(report) as PageReport, seen: { ...seen, connections: Math.max(connections, left) }, screenshot }
}
