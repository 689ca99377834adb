/**
 * The populations of `cirque prove` (src/prove) in front of several ports at once, in a process of their own:
 * `node honest-clients.ts PORT...`. None of them ever repeats a request. Prints a line of JSON each second; on SIGTERM what
 * was begun is finished, and the last line says what came of it.
 */
import type { LossReport } from '../../src/config/prove-messages.ts'
import { resolveProveOptions } from '../../src/config/prove-options.ts'
import { Proof } from '../../src/prove/proof.ts'

export interface HonestReport {
  readonly attempted: number
  readonly lost: number
  /** The first losses, a line each. */
  readonly losses: readonly string[]
}

const REPORT_MS = 1000
const DOWNLOAD_BYTES = 8 * 1024 * 1024
const UPLOAD_BYTES = 2 * 1024 * 1024
const LOSSES_SHOWN = 20

const ports = process.argv.slice(2).map(Number)
const proofs = await Promise.all(ports.map((port) => Proof.prepare(resolveProveOptions({
  url: `http://127.0.0.1:${port}`, path: '/', ws: '/ws', download: `/download?bytes=${DOWNLOAD_BYTES}`, upload: '/upload',
  rate: 20, connections: 10, beforeMs: 0, forMs: 4000, uploadBytes: UPLOAD_BYTES, timeoutMs: 20_000,
}))))
for (const proof of proofs) proof.start()

function report(): HonestReport[] {
  return proofs.map((proof) => {
    const { attempted, lost, losses } = proof.report(null)
    return { attempted, lost, losses: losses.slice(0, LOSSES_SHOWN).map(lossText) }
  })
}

function lossText({ population, fault, atMs, detail }: LossReport): string {
  return `${population}, ${fault} after ${(atMs / 1000).toFixed(1)} s: ${detail}`
}

const timer = setInterval(() => process.stdout.write(`${JSON.stringify(report())}\n`), REPORT_MS)
process.once('SIGTERM', () => {
  clearInterval(timer)
  void Promise.all(proofs.map((proof) => proof.finish())).then(() => {
    process.stdout.write(`${JSON.stringify(report())}\n`, () => process.exit(0))
  })
})
