/**
 * Releases on disk, as an operator lays them out: `<root>/releases/<name>/` with the application and a node_modules that
 * leads to this installation, `<root>/current` leading to one of them, and what all of them share beside it.
 */
import fs from 'node:fs'
import path from 'node:path'
import { makeTestCa, writeCertificate } from './test-ca.ts'

/** Root of the installation that every release finds. */
const INSTALLATION = path.resolve(import.meta.dirname, '../..')
const CA = makeTestCa()
/** Of the listener over TLS: tests of sockets have uses for the first few. */
export const TLS_HOST = '127.0.0.99'
const APPLICATION = path.join(import.meta.dirname, 'apps/released.ts')

export type ReleaseFault =
  | 'throws at import' | 'hangs at import' | 'throws at start' | 'is never ready'
  | 'exits after ready' | 'hangs after ready' | 'fails the self-test' | 'answers 5xx'

/** What release.json tells the application. */
export interface ReleaseFacts {
  readonly name: string
  /** What is wrong with it; '' when nothing is. */
  readonly fault: ReleaseFault | ''
  /** `127.0.0.1:port`. */
  readonly origin: string
  /** File with the addresses to listen on, one a line; those over TLS begin with `tls:`. */
  readonly listen: string
}

export interface ReleaseOptions {
  readonly fault?: ReleaseFault
  /** Brings a copy of the Node.js that runs this. @default false */
  readonly ownNode?: boolean
}

export class ReleaseRoot {
  readonly folder: string
  readonly #origin: string

  constructor(folder: string, origin: string) {
    this.folder = folder
    this.#origin = origin
    // Two free ports of one host would be two listeners of one name.
    this.listenOn('127.0.0.1:0', `tls:${TLS_HOST}:0`)
    this.renew()
  }

  /** What is started, whichever release it is. */
  get application(): string { return path.join(this.folder, 'current/app.ts') }
  /** Name of the release that `current` leads to. */
  get current(): string { return path.basename(fs.realpathSync(path.join(this.folder, 'current'))) }
  folderOf(name: string): string { return path.join(this.folder, 'releases', name) }

  /** @returns its folder. */
  add(name: string, { fault, ownNode = false }: ReleaseOptions = {}): string {
    const folder = this.folderOf(name)
    const facts: ReleaseFacts = { name, fault: fault ?? '', origin: this.#origin, listen: this.#listenFile }
    fs.mkdirSync(path.join(folder, 'node_modules'), { recursive: true })
    fs.symlinkSync(INSTALLATION, path.join(folder, 'node_modules/cirque'))
    fs.writeFileSync(path.join(folder, 'package.json'), JSON.stringify({ name, type: 'module' }))
    fs.writeFileSync(path.join(folder, 'release.json'), JSON.stringify(facts))
    fs.copyFileSync(APPLICATION, path.join(folder, 'app.ts'))
    if (ownNode) {
      fs.mkdirSync(path.join(folder, 'bin'))
      fs.copyFileSync(process.execPath, path.join(folder, 'bin/node'))
    }
    return folder
  }

  /** Lets `current` lead to a release, before anything was started. */
  start(name: string): void { fs.symlinkSync(path.join('releases', name), path.join(this.folder, 'current')) }

  /** What applications that are loaded from now on listen on. */
  listenOn(...addresses: readonly string[]): void { fs.writeFileSync(this.#listenFile, `${addresses.join('\n')}\n`) }

  /** Another certificate, with another key, for those that read it from now on. */
  renew(): void { writeCertificate(this.folder, 'site', CA.issue({ names: ['site.test'] })) }

  get #listenFile(): string { return path.join(this.folder, 'listen') }
}
