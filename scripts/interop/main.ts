/**
 * `npm run interop`: other programs as clients of Cirque over TLS, whose origin speaks TLS as well. Each does a GET, a POST, several
 * requests on one connection, and a second connection that takes up the session of the first; what handshakes that took is counted at the
 * edge. A program that is not there is a line that says SKIP. README.md says more.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { alignedTable } from '../bench/aligned-table.ts'
import { missingProgram } from '../bench/contenders.ts'
import { CHECKS, CLIENTS, type Check, type Client } from './clients.ts'
import { InteropEdge, plainStatus, type Handshakes } from './edge.ts'

const BROWSER = 'Chromium'

/** What is wrong with the handshakes that a check has taken; '' when nothing is. */
export function faultOf(check: Check, client: Pick<Client, 'name'>, { full, resumed, failed }: Handshakes): string {
  if (failed.length > 0) return `handshakes failed: ${failed.join(', ')}`
  const count = full + resumed
  // It makes connections as it likes; where each carries one request, most take up a session.
  if (client.name === BROWSER && check === 'resumption') return resumed > full ? '' : `${full} full and ${resumed} resumed handshakes`
  if (check === 'resumption') return full === 1 && resumed === 1 ? '' : `${full} full and ${resumed} resumed handshakes instead of 1 and 1`
  if (check === 'keep-alive' && client.name !== BROWSER) return count === 1 ? '' : `${count} connections instead of 1`
  return count > 0 ? '' : 'no handshake'
}

async function tryClient(client: Client, edge: InteropEdge, folder: string): Promise<readonly string[]> {
  const faults: string[] = [], cells: string[] = []
  try { await client.prepare?.(folder) } catch (error) {
    console.log(`FAIL ${client.name}: ${(error as Error).message}`)
    return [client.name, client.version(), ...CHECKS.map(() => 'FAIL')]
  }
  for (const check of CHECKS) {
    edge.take()
    let fault: string
    try {
      await client.run(check, edge, folder)
      fault = faultOf(check, client, edge.take())
    } catch (error) { fault = (error as Error).message }
    cells.push(fault === '' ? 'ok' : 'FAIL')
    if (fault !== '') faults.push(`FAIL ${client.name}, ${check}: ${fault}`)
  }
  for (const fault of faults) console.log(fault)
  return [client.name, client.version(), ...cells]
}

async function main(): Promise<boolean> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'cirque-interop-'))
  const edge = await InteropEdge.start(folder)
  try {
    const rows: (readonly string[])[] = [['client', 'version', 'GET', 'POST', 'keep-alive', 'resumption']]
    for (const client of CLIENTS) {
      const missing = client.programs.find(program => missingProgram(program) !== null)
      if (missing !== undefined) console.log(`SKIP ${client.name}: ${missing} is not installed`)
      else rows.push(await tryClient(client, edge, folder))
    }
    console.log(`\n${alignedTable(rows)}`)
    const status = await plainStatus(edge.port)
    console.log(`plain HTTP at the port of TLS: ${status}`)
    return status === 400 && rows.every(row => !row.includes('FAIL'))
  } finally {
    await edge.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

if (import.meta.main) process.exit(await main() ? 0 : 1)
