/**
 * The certificates of a run: one authority, one certificate that every contender serves (ECDSA P-256), and one of the origin.
 * Made when they are first wanted; their folder goes with the run.
 */
import path from 'node:path'
import { makeTestCa, writeCertificate } from '../../test/support/test-ca.ts'
import { readFileSync, writeFileSync } from 'node:fs'
import { temporaryFolder } from './managed-process.ts'

export interface TlsFiles {
  readonly certFile: string
  readonly keyFile: string
  /** Both in one file. */
  readonly bothFile: string
}

export interface BenchCertificates {
  readonly caFile: string
  readonly site: TlsFiles
  readonly origin: TlsFiles
}

/** The ciphers of TLS 1.3 in the order that Cirque prefers: nginx and haproxy would leave the choice to the client. */
export const CIPHER_SUITES = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256'

/** Names in the two certificates. Both are good for 127.0.0.1 as well. */
export const SITE_NAME = 'site.test'
export const ORIGIN_NAME = 'origin.test'

let made: BenchCertificates | null = null

export function benchCertificates(): BenchCertificates { return made ??= makeThem() }

function makeThem(): BenchCertificates {
  const folder = temporaryFolder()
  const ca = makeTestCa({ name: 'Cirque bench CA' })
  const files = (name: string): TlsFiles => {
    const { certFile, keyFile } = writeCertificate(folder, name, ca.issue({ names: [name], ips: ['127.0.0.1'] }))
    const bothFile = path.join(folder, `${name}.pem`)
    writeFileSync(bothFile, readFileSync(certFile, 'utf8') + readFileSync(keyFile, 'utf8'), { mode: 0o600 })
    return { certFile, keyFile, bothFile }
  }
  return { caFile: writeCertificate(folder, 'ca', ca).certFile, site: files(SITE_NAME), origin: files(ORIGIN_NAME) }
}
