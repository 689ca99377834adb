/**
 * A certificate by an authority of one's own, so that a server speaks TLS at its first start: for trying things out, not for clients
 * that are somebody else's. The files are in the state folder of the supervisor (src/certificates/own-authority.ts), where they are
 * found again by the next start; a renewed certificate is swapped like any other whose file has changed.
 */
import { keepOwnCertificate, OWN_AUTHORITY_FOLDER, ownAuthorityFiles } from '../certificates/own-authority.ts'
import { defaultsOf, list, OptionError, path as pathOption, resolveOptions, type OptionTable } from '../primitives/option-table.ts'
import { isIP } from 'node:net'
import path from 'node:path'

/** For whom, and where. */
export interface OwnCertificateOptions {
  /** Names and IP addresses that clients use. @default ['localhost', '127.0.0.1', '::1'] */
  names?: readonly string[]
  /** Folder of its files. '': in the state folder of the supervisor; a server without one has to be given a folder. @default '' */
  folder?: string
}

export const OWN_CERTIFICATE_OPTIONS = {
  names: list(['localhost', '127.0.0.1', '::1'], 'names in ASCII such as localhost, and IP addresses', isName),
  folder: pathOption('', 'a folder', ['']),
} satisfies OptionTable<OwnCertificateOptions>

export const OWN_CERTIFICATE_DEFAULTS = defaultsOf<OwnCertificateOptions>(OWN_CERTIFICATE_OPTIONS)

function isName(name: string): boolean { return isIP(name) !== 0 || /^(\*\.)?[a-z\d_-]+(\.[a-z\d_-]+)*$/i.test(name) }

/** What of a server's context is used. */
interface Surroundings {
  readonly stateFolder?: string
}

/** How often its time is looked at, in ms. */
const LOOK_MS = 3_600_000

/**
 * What `ownCertificate` returns: a service that makes the files before the listener reads them.
 *
 *   const own = ownCertificate()
 *   const making = server.addService(own)
 *   server.addService(httpProxyService(app).addTls(':8443', { certificates: [own.certificate] })).dependsOn(making)
 */
export class OwnCertificate {
  /** It runs beside the listeners. */
  readonly kind = 'background'
  /** Of the service. */
  readonly name: string = 'own-certificate'
  /** For the listener. Its file is known, and there, once the service has started. */
  readonly certificate: { readonly cert: string }
  readonly #names: readonly string[]
  #folder: string

  /** @internal */
  constructor(options: OwnCertificateOptions) {
    const { names, folder } = resolveOptions<OwnCertificateOptions>('ownCertificate', OWN_CERTIFICATE_OPTIONS, options)
    if (names.length === 0) throw OptionError.of('ownCertificate.names', names, 'name at least one')
    this.#names = names
    this.#folder = folder
    const certFile = (): string => this.#files().certFile
    this.certificate = { get cert() { return certFile() } }
  }

  /** File with the certificate of the authority, which clients have to trust. */
  get authority(): string { return this.#files().caFile }

  /** What the server calls: makes what is missing, and renews it in time until `signal` is aborted. @throws what the disk says */
  start(signal: AbortSignal, { stateFolder = '' }: Surroundings): void {
    if (this.#folder === '' && stateFolder === '') {
      throw new Error('ownCertificate has no folder for its files: this process has no state folder; give `folder`')
    }
    if (this.#folder === '') this.#folder = path.join(stateFolder, OWN_AUTHORITY_FOLDER)
    keepOwnCertificate(this.#folder, this.#names, Date.now())
    const timer = setInterval(() => this.#renew(), LOOK_MS)
    timer.unref()
    signal.addEventListener('abort', () => clearInterval(timer), { once: true })
  }

  #renew(): void {
    // The folder may be gone: what was read is served on, and the end of its time is told with that of any other.
    try { keepOwnCertificate(this.#folder, this.#names, Date.now()) } catch { /* the next look tries again */ }
  }

  #files(): ReturnType<typeof ownAuthorityFiles> {
    if (this.#folder === '') throw new Error('ownCertificate has no files yet: let what needs them depend on it (dependsOn)')
    return ownAuthorityFiles(this.#folder)
  }
}

/**
 * A service with a certificate by an authority that it makes at its first start and keeps.
 * @throws OptionError for names that no certificate can have
 */
export function ownCertificate(options: OwnCertificateOptions = {}): OwnCertificate { return new OwnCertificate(options) }
