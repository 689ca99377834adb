/**
 * What the machine itself says of names: addresses from its hosts file, and from resolv.conf which servers to ask, how
 * long, and which names to try in turn.
 *
 * Both files are looked at again at most once a second, and read when they changed; a file that cannot be read is like one
 * that is not there, as the machine's own resolver sees it. `localhost` needs no file (RFC 6761 6.3).
 * Asks nobody: that is resolver.ts.
 */
import { readFileSync, statSync } from 'node:fs'
import { isIP } from 'node:net'
import { hostname } from 'node:os'
import { isExhausted } from '../errors/local-faults.ts'

/** Most addresses of a name that are used. */
export const MAX_ADDRESSES = 32

/** Longest name that can be asked for (RFC 1035 2.3.4), in characters. */
const NAME_MAX = 253
/** Limits of resolv.conf(5), or of c-ares where that has a lower one. */
const SEARCH_DOMAINS_MAX = 16
const NDOTS_MAX = 15
const TIMEOUT_S_MAX = 30
const ATTEMPTS_MAX = 5
const LOOK_AGAIN_MS = 1000

const LOCALHOST: readonly string[] = ['127.0.0.1', '::1']

export interface ResolvConf {
  readonly search: readonly string[]
  readonly ndots: number
  /** For one try, ms. */
  readonly timeoutMs: number
  readonly attempts: number
}

export class MachineNames {
  readonly #hostsFile: WatchedFile
  readonly #resolvConfFile: WatchedFile
  #hosts: ReadonlyMap<string, readonly string[]> = new Map()
  #resolvConf: ResolvConf = parseResolvConf('', '')

  constructor(hostsPath: string, resolvConfPath: string) {
    this.#hostsFile = new WatchedFile(hostsPath)
    this.#resolvConfFile = new WatchedFile(resolvConfPath)
  }

  /** Addresses for which no server is asked; null when the machine knows none. `name` in lower case. */
  addresses(name: string, now: number): readonly string[] | null {
    if (this.#hostsFile.changed(now)) this.#hosts = parseHosts(this.#hostsFile.text)
    const plain = name.endsWith('.') ? name.slice(0, -1) : name
    const hosts = this.#hosts.get(plain)
    if (hosts !== undefined) return hosts
    return plain === 'localhost' || plain.endsWith('.localhost') ? LOCALHOST : null
  }

  /** What resolv.conf says: the same object until the file changes. */
  resolvConf(now: number): ResolvConf {
    if (this.#resolvConfFile.changed(now)) this.#resolvConf = parseResolvConf(this.#resolvConfFile.text, hostname())
    return this.#resolvConf
  }
}

/** A file whose text is read again when it changed; looked at no more than once a second. Not there: no text. */
class WatchedFile {
  readonly #path: string
  text = ''
  #lookAt = 0
  #stamp = ''

  constructor(path: string) { this.#path = path }

  /**
   * Whether `text` is another one than at the last call. Synchronous: the files are small, and asynchronous reads would
   * use the thread pool.
   */
  changed(now: number): boolean {
    if (now < this.#lookAt) return false
    this.#lookAt = now + LOOK_AGAIN_MS
    const stamp = stampOf(this.#path)
    if (stamp === this.#stamp) return false
    try {
      this.text = readFileSync(this.#path, 'utf8')
    } catch (thrown) {
      // For want of a descriptor: what was read before holds, and the next look is soon.
      if (isExhausted(thrown)) return false
      // Not readable is like not there: the machine's own resolver sees nothing either.
      this.text = ''
    }
    this.#stamp = stamp
    return true
  }
}

/** A text that is another one when the file is. */
function stampOf(path: string): string {
  try {
    const stats = statSync(path, { throwIfNoEntry: false })
    return stats === undefined ? 'absent' : `${stats.ino} ${stats.size} ${stats.mtimeMs}`
  } catch (thrown) {
    return String(thrown)
  }
}

/** hosts(5): names in lower case, each with all of its addresses. */
export function parseHosts(text: string): Map<string, readonly string[]> {
  const hosts = new Map<string, string[]>()
  for (const line of text.split('\n')) {
    const [address, ...names] = fieldsOf(line)
    if (address === undefined || isIP(address) === 0) continue
    for (const name of names) {
      const lower = name.toLowerCase()
      const known = hosts.get(lower)
      if (known === undefined) hosts.set(lower, [address])
      else if (!known.includes(address) && known.length < MAX_ADDRESSES) known.push(address)
    }
  }
  return hosts
}

/** resolv.conf(5). Without a search list the domain of the machine's own name stands in. Servers are left to c-ares. */
export function parseResolvConf(text: string, ownName: string): ResolvConf {
  const dot = ownName.indexOf('.')
  let search: readonly string[] = dot === -1 ? [] : [ownName.slice(dot + 1).toLowerCase()]
  let ndots = 1
  // Shorter than the usual 5 s: a lost datagram must leave time for another try within resolveTimeoutMs.
  let timeoutMs = 1500
  let attempts = 3
  for (const line of text.split('\n')) {
    const [keyword, ...values] = fieldsOf(line)
    if (keyword === 'search' || keyword === 'domain') {
      search = values.map(plainDomain).filter(domain => domain !== '').slice(0, SEARCH_DOMAINS_MAX)
    } else if (keyword === 'options') {
      for (const option of values) {
        const [name, value] = option.split(':')
        const number = Number.parseInt(value ?? '', 10)
        if (Number.isNaN(number)) continue
        if (name === 'ndots') ndots = between(0, number, NDOTS_MAX)
        else if (name === 'timeout') timeoutMs = between(1, number, TIMEOUT_S_MAX) * 1000
        else if (name === 'attempts') attempts = between(1, number, ATTEMPTS_MAX)
      }
    }
  }
  return { search, ndots, timeoutMs, attempts }
}

/** In lower case and without the dot that may end it; '' for the root. */
function plainDomain(text: string): string {
  const lower = text.toLowerCase()
  return lower.endsWith('.') ? lower.slice(0, -1) : lower
}

function between(least: number, value: number, most: number): number { return Math.min(Math.max(value, least), most) }

/** Words of a line, without its comment. */
function fieldsOf(line: string): string[] {
  let end = line.length
  for (let i = 0; i < end; i++) if (line[i] === '#' || line[i] === ';') end = i
  return line.slice(0, end).split(/[ \t\r]+/).filter(word => word !== '')
}

/** The names to ask for, in order, until one is there (resolv.conf(5), ndots). */
export function candidatesOf(name: string, settings: Pick<ResolvConf, 'search' | 'ndots'>): string[] {
  if (name.endsWith('.')) return [name.slice(0, -1)]
  let dots = 0
  for (let i = 0; i < name.length; i++) if (name.charCodeAt(i) === 0x2e) dots++
  const searched = settings.search.map(domain => `${name}.${domain}`).filter(candidate => candidate.length <= NAME_MAX)
  return dots >= settings.ndots ? [name, ...searched] : [...searched, name]
}
