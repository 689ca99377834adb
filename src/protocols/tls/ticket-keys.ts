/**
 * Keys with which a server encrypts the state that it hands to clients as session tickets (RFC 5077, RFC 8446 4.6.1). Whoever has
 * the same keys takes a session up again: the other workers, the next generation, other machines of a fleet.
 *
 *   set([newest, older, ...])   the newest encrypts, all of them decrypt, and what an older one decrypted is encrypted anew
 *
 * OpenSSL asks for a key through a callback that Node.js has without publishing it. It is told of a change by asking, so a
 * change costs nothing; `proveTicketCallback()` takes up a session with an older key once a process, and where that fails each
 * context has the newest key in the one place that is public (`ticketKeys`): older tickets then cost a full handshake.
 *
 * Who makes the keys, and when they change, is not known here.
 */
import { randomBytes, randomFillSync } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type tls from 'node:tls'

/** One key, as it is used and never shown. */
export interface TicketKey {
  /** Written into each ticket in clear: by it the key is found. 16 bytes. */
  readonly name: Buffer
  /** 16 bytes. */
  readonly hmac: Buffer
  /** 16 bytes. */
  readonly aes: Buffer
}

/** Of one part of a key. OpenSSL reads so many bytes, whatever it is given. */
const PART_BYTES = 16
/** A key as one run of bytes: name, hmac, aes. */
export const TICKET_KEY_BYTES = 3 * PART_BYTES

/** @throws RangeError when it is not TICKET_KEY_BYTES long */
export function ticketKeyOf(bytes: Buffer): TicketKey {
  if (bytes.length !== TICKET_KEY_BYTES) throw new RangeError(`a ticket key has ${TICKET_KEY_BYTES} bytes, not ${bytes.length}`)
  const part = (at: number): Buffer => Buffer.from(bytes.subarray(at * PART_BYTES, (at + 1) * PART_BYTES))
  return { name: part(0), hmac: part(1), aes: part(2) }
}

export function bytesOfTicketKey({ name, hmac, aes }: TicketKey): Buffer { return Buffer.concat([name, hmac, aes]) }

export function makeTicketKey(): TicketKey { return ticketKeyOf(randomBytes(TICKET_KEY_BYTES)) }

/** What Node.js has below a `SecureContext`. */
interface ContextHandle {
  onticketkeycallback?: TicketCallback
  enableTicketKeyCallback?(): void
  setTicketKeys?(keys: Buffer): void
}

/**
 * Encrypting: `[1, hmac, aes, name, iv]`. Decrypting: `[2, hmac, aes]`, taken and renewed. An unknown name: `[0, hmac, aes]` all
 * the same, since Node.js ends the process over anything shorter.
 */
type TicketCallback = (name: Buffer, iv: Buffer, encrypts: boolean) => [number, ...Buffer[]]

const NO_KEY = Buffer.alloc(PART_BYTES)
/** In TLS 1.3 a client uses a ticket once, and is given none for the one that it used unless its ticket is renewed. */
const RENEWED = 2

export class TicketKeys {
  #keys: readonly TicketKey[] = []
  /** Those that must be told of a change, where the callback cannot be used. */
  readonly #told = new Set<WeakRef<tls.SecureContext>>()

  /** @param keys the newest first */
  constructor(keys: readonly TicketKey[] = [makeTicketKey()]) { this.set(keys) }

  /** The newest first. */
  get keys(): readonly TicketKey[] { return this.#keys }

  /** Replaces all keys, in every context. @param keys the newest first, at least one. @throws RangeError on one that is none */
  set(keys: readonly TicketKey[]): void {
    if (keys.length === 0) throw new RangeError('tickets need at least one key')
    for (const { name, hmac, aes } of keys) {
      const isWhole = [name, hmac, aes].every(({ length }) => length === PART_BYTES)
      if (!isWhole) throw new RangeError(`each part of a ticket key has ${PART_BYTES} bytes`)
    }
    this.#keys = [...keys]
    for (const reference of this.#told) {
      const context = reference.deref()
      if (context === undefined) this.#told.delete(reference)
      else this.#tell(context)
    }
  }

  /** Tickets of `context` are encrypted with these keys from now on, and with what they become. */
  install(context: tls.SecureContext): void {
    if (!canAsk) {
      this.#told.add(new WeakRef(context))
      this.#tell(context)
      return
    }
    const handle = handleOf(context)
    handle.onticketkeycallback = this.#onTicket
    handle.enableTicketKeyCallback!()
  }

  #tell(context: tls.SecureContext): void { handleOf(context).setTicketKeys?.(bytesOfTicketKey(this.#keys[0]!)) }

  readonly #onTicket: TicketCallback = (name, _iv, encrypts) => {
    if (encrypts) {
      const { name: own, hmac, aes } = this.#keys[0]!
      return [1, hmac, aes, own, freshIv()]
    }
    for (const key of this.#keys) if (key.name.equals(name)) return [RENEWED, key.hmac, key.aes]
    return [0, NO_KEY, NO_KEY]
  }
}

/** Of so many tickets at once: a call for each would cost more than all that it brings. */
const ivs = Buffer.alloc(256 * PART_BYTES)
let ivsUsed = ivs.length

/** 16 bytes that nobody had before. They are read before the callback that they are for returns to the event loop. */
function freshIv(): Buffer {
  if (ivsUsed === ivs.length) {
    randomFillSync(ivs)
    ivsUsed = 0
  }
  return ivs.subarray(ivsUsed, ivsUsed += PART_BYTES)
}

/** Those of this process: its own until it is given others. */
export const ticketKeys = new TicketKeys()

/** Tickets of all listeners of this process are encrypted with the first of `keys`, and decrypted with any of them. */
export function setTicketKeys(keys: readonly TicketKey[]): void { ticketKeys.set(keys) }

function handleOf(context: tls.SecureContext): ContextHandle { return context.context as ContextHandle }

let canAsk = true
let proven: Promise<boolean> | null = null

/** Whether contexts ask for their keys, so that several are good at once. */
export function asksForTicketKeys(): boolean { return canAsk }

/** Finds out once a process whether contexts ask for keys; before the first context is made. Resolves to what holds. */
export function proveTicketCallback(): Promise<boolean> {
  return proven ??= probe().then(works => canAsk = works, () => canAsk = false)
}

/** A handshake needs no certificate with these. Nothing else may ever be told to use them. */
const ANONYMOUS = { ciphers: 'AECDH-AES128-SHA:@SECLEVEL=0', minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const
const PROBE_LIMIT_MS = 2000

/** A session is taken up again with an older key, and not without it. */
async function probe(): Promise<boolean> {
  const tls = process.getBuiltinModule('node:tls')
  const older = makeTicketKey(), newer = makeTicketKey(), keys = new TicketKeys([older])
  const context = tls.createSecureContext({ ...ANONYMOUS, sessionIdContext: 'probe' })
  if (typeof handleOf(context).enableTicketKeyCallback !== 'function') return false
  keys.install(context)
  const first = await handshake(context, null)
  keys.set([newer, older])
  const second = await handshake(context, first.session)
  keys.set([newer])
  const third = await handshake(context, first.session)
  return !first.resumed && second.resumed && !third.resumed
}

/** Between two ends in memory. */
async function handshake(secureContext: tls.SecureContext, session: Buffer | null): Promise<{ resumed: boolean; session: Buffer | null }> {
  const tls = process.getBuiltinModule('node:tls')
  const [one, other] = memoryPair(), { promise, resolve, reject } = Promise.withResolvers<void>()
  const limit = setTimeout(() => reject(new Error('late')), PROBE_LIMIT_MS)
  const server = new tls.TLSSocket(one, { isServer: true, secureContext })
  const client = tls.connect({ ...ANONYMOUS, socket: other, session: session ?? undefined, rejectUnauthorized: false })
  let ticket: Buffer | null = null
  client.on('session', (given: Buffer) => ticket = given)
  client.once('secureConnect', () => setImmediate(resolve))
  for (const end of [server, client]) end.on('error', reject)
  try {
    await promise
    return { resumed: client.isSessionReused(), session: ticket }
  } finally {
    clearTimeout(limit)
    client.destroy()
    server.destroy()
  }
}

function memoryPair(): [Duplex, Duplex] {
  const { Duplex } = process.getBuiltinModule('node:stream')
  const end = (other: () => Duplex): Duplex => new Duplex({
    read() { /* pushed from the other end */ },
    write(chunk, _encoding, taken) {
      other().push(chunk)
      taken()
    },
  })
  const one = end(() => two), two: Duplex = end(() => one)
  return [one, two]
}
