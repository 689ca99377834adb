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
  /** The first losses, a line a kind. */
  readonly losses: readonly string[]
}

const REPORT_MS = 1000
const DOWNLOAD_BYTES = 8 * 1024 * 1024
const UPLOAD_BYTES = 2 * 1024 * 1024
const LOSS_KINDS_SHOWN = 20

const ports = process.argv.slice(2).map(Number)
const proofs = await Promise.all(ports.map((port) => Proof.prepare(resolveProveOptions({
  url: `http://127.0.0.1:${port}`, path: '/', ws: '/ws', download: `/download?bytes=${DOWNLOAD_BYTES}`, upload: '/upload',
  rate: 20, connections: 10, beforeMs: 0, forMs: 4000, uploadBytes: UPLOAD_BYTES, timeoutMs: 20_000,
}))))
for (const proof of proofs) proof.start()

function report(): HonestReport[] {
  return proofs.map((proof) => {
    const { attempted, lost, losses } = proof.report(null)
    return { attempted, lost, losses: lossKinds(losses) }
  })
}

/** A proof keeps the first hundred losses; those alike are one line. */
function lossKinds(losses: readonly LossReport[]): string[] {
  const kinds = new Map<string, { firstMs: number; count: number }>()
  for (const { population, fault, atMs, detail } of losses) {
    const text = `${population}, ${fault}: ${detail}`
    const known = kinds.get(text)
    if (known === undefined) kinds.set(text, { firstMs: atMs, count: 1 })
    else known.count++
  }
  const lines = [...kinds].map(([text, { firstMs, count }]) => `${count} x ${text}, first after ${(firstMs / 1000).toFixed(1)} s`)
  return lines.slice(0, LOSS_KINDS_SHOWN)
}

const timer = setInterval(() => process.stdout.write(`${JSON.stringify(report())}\n`), REPORT_MS)
process.once('SIGTERM', () => {
  clearInterval(timer)
  void Promise.all(proofs.map((proof) => proof.finish())).then(() => {
    process.stdout.write(`${JSON.stringify(report())}\n`, () => process.exit(0))
  })
})
