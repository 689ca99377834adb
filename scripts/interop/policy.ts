/**
 * `npm run interop:policy [-- FOLDER]`: testssl.sh and sslscan against a listener as it comes. Their whole output is kept in FOLDER
 * (default: interop-results), and what they found is printed with a verdict: nothing above LOW, nothing below TLS 1.2, no cipher without
 * forward secrecy, and the hybrid group with who knows it. A program that is not there is a line that says SKIP.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import tls from 'node:tls'
import { missingProgram } from '../bench/contenders.ts'
import { runProgram } from './clients.ts'
import { InteropEdge } from './edge.ts'

export interface Finding { readonly id: string; readonly severity: string; readonly finding: string }

const FINE: ReadonlySet<string> = new Set(['OK', 'INFO', 'LOW'])
/** Of the certificate that was made for the run, of the name it is for, and of the program itself: no listener can change these. */
const NOT_OURS = /^(cert_|DNS_CAArecord|engine_problem|scanTime)/
const TESTSSL_MAX_MS = 600_000

/** What is above LOW, and whose it is. */
export function judge(findings: readonly Finding[]): { readonly faults: readonly Finding[]; readonly notOurs: readonly Finding[] } {
  const above = findings.filter(({ severity }) => !FINE.has(severity))
  return { faults: above.filter(({ id }) => !NOT_OURS.test(id)), notOurs: above.filter(({ id }) => NOT_OURS.test(id)) }
}

/** What sslscan says of protocols and ciphers that should not be. */
export function faultsOfScan(text: string): readonly string[] {
  const faults: string[] = []
  for (const [, version = '', state = ''] of text.matchAll(/^(SSLv\d|TLSv1\.\d) +(enabled|disabled)/gm)) {
    const isWanted = version === 'TLSv1.2' || version === 'TLSv1.3'
    if ((state === 'enabled') !== isWanted) faults.push(`${version} is ${state}`)
  }
  for (const [, cipher = ''] of text.matchAll(/^(?:Preferred|Accepted) +TLSv1\.2 +\d+ bits +(\S+)/gm)) {
    if (!/^ECDHE-.*(GCM|POLY1305)/.test(cipher)) faults.push(`the cipher ${cipher}`)
  }
  return faults
}

/** With OpenSSL 3.5, which Node.js has. */
function groupOf(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ host: '127.0.0.1', port, servername: 'localhost', rejectUnauthorized: false }, () => {
      resolve((socket.getEphemeralKeyInfo() as { name?: string }).name ?? 'none')
      socket.destroy()
    }).on('error', reject)
  })
}

async function main(folder: string): Promise<boolean> {
  mkdirSync(folder, { recursive: true })
  const edge = await InteropEdge.start(path.join(folder, 'certificates'))
  const address = `localhost:${edge.port}`, faults: string[] = []
  try {
    const group = await groupOf(edge.port)
    console.log(`OpenSSL ${process.versions.openssl} agrees on ${group}`)
    if (group !== 'X25519MLKEM768') faults.push(`the group is ${group}`)
    if (missingProgram('sslscan') !== null) console.log('SKIP sslscan: it is not installed')
    else {
      const { stdout } = await runProgram('sslscan', ['--no-colour', address])
      writeFileSync(path.join(folder, 'sslscan.txt'), stdout)
      console.log(stdout)
      faults.push(...faultsOfScan(stdout).map(fault => `sslscan: ${fault}`))
    }
    if (missingProgram('testssl') !== null) console.log('SKIP testssl.sh: it is not installed')
    else {
      const file = path.resolve(folder, 'testssl.json')
      rmSync(file, { force: true })
      const quiet = ['--quiet', '--color', '0', '--warnings', 'batch']
      const args = [...quiet, '--add-ca', edge.caFile, '--ip', '127.0.0.1', '--jsonfile', file, address]
      // Its exit code counts findings; what they are stands in the file.
      const { stdout } = await runProgram('testssl', args, { limitMs: TESTSSL_MAX_MS, anyCode: true })
      writeFileSync(path.join(folder, 'testssl.txt'), stdout)
      const { faults: found, notOurs } = judge(JSON.parse(readFileSync(file, 'utf8')) as Finding[])
      for (const { severity, id, finding } of notOurs) console.log(`testssl.sh, not of the listener: ${severity} ${id}: ${finding}`)
      faults.push(...found.map(({ severity, id, finding }) => `testssl.sh: ${severity} ${id}: ${finding}`))
    }
  } finally {
    await edge.stop()
  }
  for (const fault of faults) console.log(`FAIL ${fault}`)
  console.log(faults.length === 0 ? `nothing above LOW; output is in ${folder}` : `output is in ${folder}`)
  return faults.length === 0
}

if (import.meta.main) process.exit(await main(process.argv[2] ?? 'interop-results') ? 0 : 1)
