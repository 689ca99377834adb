/**
 * The handshake of TLS between accepting and the protocol, on all connections of one listener.
 *
 *   Hello ──▶ [Naming] ──▶ Waiting ──▶ Shaking ──▶ Over      the name is read, an application perhaps asked for a certificate, a place
 *     └─▶ Refusing ─────────────────────────────▶ Over       waited for, and OpenSSL does the rest; plain HTTP gets an answer in clear
 *
 * The name decides the secure context before OpenSSL sees a byte (client-hello.ts): nothing of another name's context has a part
 * in the handshake. The pipeline has the deadline, and cuts; whatever ends a handshake is told once, with one word (HandshakeResult).
 * What a client brings about is a line for those who debug; what the operator or the application did wrong is one for all.
 */
import { appendFile, statSync } from 'node:fs'
import { readCertificates, type ClientRules, type GivenCertificate, type ReadCertificates } from '../certificates/certificate-entry.ts'
import { CertificateFiles, type CertificateChange } from '../certificates/certificate-files.ts'
import { describeError } from '../errors/describe-error.ts'
import { givenCertificates, type ResolvedTlsListenerOptions } from '../listener/tls-listener-options.ts'
import { isPromise } from '../primitives/application-call.ts'
import type { Ticker, Timed } from '../primitives/clock.ts'
import { OptionError } from '../primitives/option-table.ts'
import { BUFFER_RESERVE, type ByteStream, type StreamOwner, type TlsFacts } from '../protocols/byte-stream.ts'
import { CertificateMap, type ServedEntry } from '../protocols/tls/certificate-map.ts'
import { ClientHelloReader } from '../protocols/tls/client-hello.ts'
import { ConnectionSite } from '../protocols/tls/connection-site.ts'
import { HandshakeSlots, type SlotUser } from '../protocols/tls/handshake-slots.ts'
import { contradiction } from '../protocols/tls/server-policy.ts'
import { ticketKeys } from '../protocols/tls/ticket-keys.ts'
import { tlsHandleOf } from '../protocols/tls/tls-socket.ts'
import { acceptTls, type HandshakeOwner, type TlsStream } from '../protocols/tls/tls-stream.ts'
import type { RepeatedLines } from '../telemetry/repeated-lines.ts'
import type { HandshakeResult } from '../telemetry/tracer.ts'
import type { TracerGroup } from '../telemetry/tracer-group.ts'
import type { AcceptFacts, AcceptStage, RunningStage, StageWaiter } from './accept-pipeline.ts'

/** What a listener lends to its handshakes. */
export interface TlsStageHost {
  /** Name of the listener. */
  readonly listener: string
  readonly ticker: Ticker
  readonly lines: RepeatedLines
  /** Those of now; null: none watches. */
  tracers(): TracerGroup | null
  /** Protocols that are answered, by their names in ALPN, the preferred first. */
  readonly protocols: readonly string[]
  /** Who shares places with whom; '': nobody that could be told from others. */
  clientOf(remoteIp: string): string
}

/** In clear, since there is no other way to be understood. */
const PLAIN_HTTP_BODY = '400 Bad Request\nThis port speaks TLS. Use https:// in place of http://.\n'
const PLAIN_HTTP_ANSWER = 'HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n' +
  `Connection: close\r\nContent-Length: ${PLAIN_HTTP_BODY.length}\r\n\r\n${PLAIN_HTTP_BODY}`
/** What is read of such a request, so that its answer is not lost in a reset. */
const MAX_PLAIN_BYTES = 65_536

/** Alert `unrecognized_name`, fatal (RFC 6066 3), as the first record of a connection. */
const UNRECOGNIZED_NAME = '\x15\x03\x01\x00\x02\x02\x70'

/** How often files are looked at, in ms; less often where there are many, which costs a hundredth of a core at most. */
const LOOK_MS = 2_000
const LOOK_MS_A_FILE = 2

export class TlsStage implements AcceptStage {
  readonly name = 'tls'
  readonly options: ResolvedTlsListenerOptions
  readonly host: TlsStageHost
  readonly map: CertificateMap
  readonly slots: HandshakeSlots
  readonly files: CertificateFiles
  #stopLooking: () => void = () => {}
  /** Entries of answers that an application has given before, and what the listener asked of clients then. */
  readonly #answered = new WeakMap<GivenCertificate, { readonly served: ServedEntry; readonly under: ClientRules }>()

  /** @throws CertificateError, OptionError: the listener cannot serve with these */
  constructor(options: ResolvedTlsListenerOptions, host: TlsStageHost) {
    this.options = options
    this.host = host
    this.map = new CertificateMap(options, ticketKeys)
    this.slots = new HandshakeSlots(options.maxConcurrentHandshakes, host.ticker)
    if (options.fips) requireFips()
    const forgotten = contradiction(options)
    if (forgotten !== null) throw OptionError.of(`listener.tls.${forgotten.name}`, options[forgotten.name], forgotten.remedy)
    if (givenCertificates(options).length === 0 && options.certificateFor === null) {
      throw OptionError.of('listener.tls.certificates', options.certificates, 'give at least one certificate, or certificateFor')
    }
    if (options.keyLogFile !== '') requirePrivate(options.keyLogFile)
    const { clientCertificates: mode, clientCa: ca, clientCrl: crl } = options
    this.files = new CertificateFiles(givenCertificates(options), { mode, ca, crl }, {
      now: () => host.ticker.clock.wall(), replace: entries => this.map.replace(entries),
    })
    this.#say(this.files.load())
    this.#lookLater()
    if (options.keyLogFile === '') return
    host.lines.warn('secrets of connections are written to a file: whoever has it reads them', { listener: host.listener }, () => ({
      file: options.keyLogFile,
    }))
  }

  /** For as long as the listener serves. What hangs on a disk is waited for, not asked again. */
  #lookLater(): void {
    const { files, host: { ticker: { clock } } } = this
    if (files.files === 0) return
    const everyMs = Math.max(LOOK_MS, files.files * LOOK_MS_A_FILE)
    this.#stopLooking = clock.every(everyMs, () => { void this.#look(false) })
  }

  /** Reads what has changed since it was read last, and serves it where it will do. @returns what came of it */
  reload(): Promise<readonly CertificateChange[]> { return this.#look(true) }

  close(): void { this.#stopLooking() }

  async #look(atOnce: boolean): Promise<readonly CertificateChange[]> {
    const changes = await this.files.look(atOnce), { lines, listener } = this.host
    for (const { outcome, files, reason } of changes) {
      if (outcome === 'swapped') lines.info('a certificate was swapped', { listener }, () => ({ files }))
      else lines.error('a certificate was not swapped; the one before is served', { listener }, () => ({ files, reason }))
    }
    return changes
  }

  #say(remarks: ReadCertificates['remarks']): void {
    const { lines, listener } = this.host
    for (const { where: certificate, text, meant } of remarks) {
      lines[meant ? 'info' : 'warn']('a certificate is served that has something odd', { listener, certificate, text })
    }
  }

  /** What an application gave for a name. @throws CertificateError */
  answered(given: GivenCertificate): ServedEntry {
    const before = this.#answered.get(given), { clients } = this.files
    // Who was revoked since, is so for this name as well.
    if (before !== undefined && before.under === clients) return before.served
    const now = this.host.ticker.clock.wall()
    const { entries, remarks } = readCertificates([given], { now, refusesExpired: false, clients }, 'certificateFor')
    const served = this.map.answered(entries[0]!)
    this.#say(remarks)
    this.#answered.set(given, { served, under: clients })
    return served
  }

  start(stream: ByteStream, early: Buffer | null, _facts: AcceptFacts, waiter: StageWaiter): RunningStage {
    const handshake = new ServerHandshake(this, stream, waiter)
    stream.owner = handshake
    if (early !== null) handshake.onBytes(early, BUFFER_RESERVE, early.length - BUFFER_RESERVE)
    return handshake
  }

  writeKeys(line: Buffer): void {
    const { options: { keyLogFile }, host: { lines, listener } } = this
    appendFile(keyLogFile, line, { mode: 0o600 }, error => {
      if (error === null) return
      lines.error('secrets cannot be written to the key log', { listener }, () => ({ file: keyLogFile, error: error.message }))
    })
  }
}

/** Node.js says yes to FIPS also where OpenSSL has no provider for it, and can do nothing at all from then on. */
function requireFips(): void {
  const { createHash, getFips, setFips } = process.getBuiltinModule('node:crypto')
  if (getFips() === 1) return
  try {
    setFips(true)
    createHash('sha256').update('').digest()
  } catch (error) {
    setFips(false)
    const reason = (error as Error).message
    throw OptionError.of('listener.tls.fips', true, `install a FIPS provider for OpenSSL, which has none (${reason}), or leave it out`)
  }
}

/** Where it is not there it is made for its owner alone. */
function requirePrivate(keyLogFile: string): void {
  const stat = statSync(keyLogFile, { throwIfNoEntry: false })
  if (stat === undefined || !stat.isFile() || (stat.mode & OTHERS_MAY) === 0) return
  const remedy = 'give a file that is not there, or one that only its owner may read and write'
  throw OptionError.of('listener.tls.keyLogFile', keyLogFile, remedy)
}

/** Anything, by the mode of a file. */
const OTHERS_MAY = 0o077

const State = { Hello: 0, Naming: 1, Waiting: 2, Shaking: 3, Refusing: 4, Over: 5 } as const
type State = (typeof State)[keyof typeof State]

/** One connection's way through the stage. */
class ServerHandshake implements RunningStage, StreamOwner, HandshakeOwner, SlotUser, Timed {
  tickIndex = -1
  placeOlder: SlotUser | null = null
  placeNewer: SlotUser | null = null
  placeSince = Number.NaN
  readonly client: string
  readonly #stage: TlsStage
  readonly #stream: ByteStream
  readonly #waiter: StageWaiter
  readonly #startedAt: number
  #state: State = State.Hello
  #hello: ClientHelloReader | null = new ClientHelloReader()
  #serverName = ''
  #served: ServedEntry | null = null
  #tls: TlsStream | null = null
  /** False: the application was asked, and could not say. */
  #answeredFor = true
  /** What the listener asked of clients then. */
  #clients: ClientRules | null = null
  /** When the hello was whole; 0: it never was. */
  #saidAt = 0
  #deadline = Number.POSITIVE_INFINITY
  #discarded = 0

  constructor(stage: TlsStage, stream: ByteStream, waiter: StageWaiter) {
    this.#stage = stage
    this.#stream = stream
    this.#waiter = waiter
    this.client = stage.host.clientOf(stream.digest.remoteIp)
    this.#startedAt = stage.host.ticker.clock.now()
  }

  /** It has said something, and nothing yet that ends it. */
  get underWay(): boolean { return this.#state === State.Hello ? this.#stream.bytesRead > 0 : this.#state < State.Refusing }

  // ---- the hello

  onBytes(buffer: Buffer, from: number, to: number): void {
    if (this.#state === State.Refusing) {
      if ((this.#discarded += to - from) > MAX_PLAIN_BYTES) this.#fail('plain-http')
      return
    }
    if (this.#state !== State.Hello) return
    const hello = this.#hello!, verdict = hello.add(buffer, from, to)
    if (verdict === 'more') return
    if (verdict === 'plain') {
      this.#answerPlain()
      return
    }
    this.#serverName = hello.serverName
    this.#saidAt = this.#stage.host.ticker.clock.exact()
    // The rest is OpenSSL's, who takes over the connection.
    this.#stream.pause()
    this.#choose()
  }

  onEnd(): void { this.#fail(this.#state === State.Refusing ? 'plain-http' : 'client-gone') }
  onDrained(): void { /* what is written here is short */ }
  onClosed(): void { this.#fail(this.#state === State.Refusing ? 'plain-http' : 'client-gone') }

  #answerPlain(): void {
    this.#tell('plain-http', null, '')
    this.#state = State.Refusing
    this.#hello = null
    this.#stream.writeText(PLAIN_HTTP_ANSWER)
    this.#stream.end()
  }

  // ---- the certificate

  #choose(): void {
    const { map, options: { certificateFor } } = this.#stage, name = this.#serverName
    const served = map.exact(name)
    if (served === null && certificateFor !== null && name !== '') this.#ask(certificateFor)
    else this.#found(served)
  }

  #ask(certificateFor: NonNullable<ResolvedTlsListenerOptions['certificateFor']>): void {
    const { host: { ticker }, options: { certificateForTimeoutMs } } = this.#stage
    this.#state = State.Naming
    let answer: unknown
    try { answer = certificateFor(this.#serverName) } catch (thrown) {
      this.#noAnswer(describeError(thrown).message)
      return
    }
    if (!isPromise(answer)) {
      this.#answered(answer as GivenCertificate | null)
      return
    }
    this.#deadline = ticker.clock.now() + certificateForTimeoutMs
    ticker.add(this)
    Promise.resolve(answer).then(
      given => this.#answered(given as GivenCertificate | null),
      (thrown: unknown) => this.#noAnswer(describeError(thrown).message),
    )
  }

  onTick(now: number): void { if (now >= this.#deadline) this.#noAnswer('it was late') }

  #answered(given: GivenCertificate | null): void {
    if (this.#state !== State.Naming) return
    if (given === null || given === undefined) {
      this.#found(null)
      return
    }
    let served: ServedEntry
    try { served = this.#stage.answered(given) } catch (error) {
      this.#noAnswer((error as Error).message)
      return
    }
    this.#found(served)
  }

  #noAnswer(error: string): void {
    if (this.#state !== State.Naming) return
    const { lines, listener } = this.#stage.host, name = this.#serverName
    const text = 'certificateFor failed; the default certificate is served, and 421 to requests for the name'
    lines.error(text, { listener }, () => ({ name, error }))
    this.#answeredFor = false
    this.#found(null)
  }

  /** @param served null: the default */
  #found(served: ServedEntry | null): void {
    if (this.tickIndex !== -1) this.#stage.host.ticker.remove(this)
    this.#clients = this.#stage.files.clients
    this.#served = served ?? this.#stage.map.find('')
    if (this.#served === null) {
      this.#stream.writeText(UNRECOGNIZED_NAME)
      this.#fail('unknown-name')
      return
    }
    this.#state = State.Waiting
    // A connection that is being read cannot be handed over: it stops when this call of it returns.
    process.nextTick(enterSlots, this)
  }

  enter(): void { if (this.#state === State.Waiting) this.#stage.slots.enter(this) }

  // ---- the handshake

  begin(): void {
    const { options, host: { protocols } } = this.#stage, { entry: { clients: { mode }, ocsp } } = this.#served!
    const bytes = this.#hello!.bytes
    this.#state = State.Shaking
    this.#hello = null
    try {
      const tls = this.#tls = acceptTls(this.#stream, bytes.subarray(BUFFER_RESERVE, bytes.length - BUFFER_RESERVE), {
        secureContext: this.#served!.context, requestCert: mode !== 'none', ALPNProtocols: [...protocols],
      }, this, this.#serverName)
      const handle = tlsHandleOf(tls.socket)
      // Who shows none is told so by OpenSSL, with an alert; who shows a wrong one can only be cut.
      if (mode !== 'none') handle?.setVerifyMode(true, mode === 'required')
      if (ocsp !== null) handle?.setOCSPResponse(ocsp)
      if (options.keyLogFile !== '') tls.socket.on('keylog', line => this.#stage.writeKeys(line))
    } catch (error) {
      this.#broken(error as Error)
    }
  }

  #broken(error: Error): void {
    const { lines, listener } = this.#stage.host, { certFile } = this.#served!.entry.pairs[0]!
    const details = { error: error.message, certificate: certFile, name: this.#serverName }
    lines.error('a handshake could not begin', { listener }, () => details)
    this.#fail('internal', error)
    this.#tls?.cancelHandshake()
  }

  onSecure(stream: TlsStream): void {
    const served = this.#served!, { mode } = served.entry.clients, { map, options, host, files } = this.#stage
    const tls = stream.digest.tls!
    let shown: Buffer | null = null
    if (mode !== 'none') {
      shown = stream.socket.getPeerX509Certificate()?.raw ?? null
      const error = shown === null ? '' : stream.verifyError
      if (error !== '' || (shown === null && mode === 'required')) {
        this.#refuseClient(stream, error === '' ? 'none was shown' : error)
        return
      }
    }
    const asked = { serverName: this.#serverName, answered: this.#answeredFor, clients: this.#clients! }
    const site = new ConnectionSite(map, served, asked, shown, {
      strict: options.sniMismatch === 'reject', openUnder: options.certificateFor === null ? null : files,
    })
    this.#tell('ok', tls, '')
    this.#state = State.Over
    this.#stage.slots.end(this)
    host.ticker.remove(this)
    this.#waiter.onPassed(stream, null, { alpn: tls.alpn, site })
  }

  /** Only the operator can mend a list that is missing or out of date. */
  #refuseClient(stream: TlsStream, error: string): void {
    const { lines, listener } = this.#stage.host, client = stream.digest.remoteIp
    if (error.includes('CRL')) {
      lines.error("clients' certificates cannot be checked against the list of revoked ones", { listener, error }, () => ({ client }))
    }
    stream.destroy()
    this.#fail('client-certificate', Object.assign(new Error(error), { code: error }))
  }

  onHandshakeFailed(error: Error | null): void { this.#fail(resultOf(error), error) }

  // ---- the end

  #fail(result: HandshakeResult, error: Error | null = null): void {
    if (this.#state === State.Over) return
    this.#leave(result, error)
    this.#waiter.onFailed()
  }

  cancel(): void {
    if (this.#state === State.Over) return
    const { host: { ticker }, options: { handshakeTimeoutMs } } = this.#stage
    const isLate = ticker.clock.now() - this.#startedAt >= handshakeTimeoutMs
    const tls = this.#tls
    this.#leave(isLate ? 'timeout' : 'cut', null)
    tls?.cancelHandshake()
  }

  #leave(result: HandshakeResult, error: Error | null): void {
    const { slots, host: { ticker, lines, listener } } = this.#stage, before = this.#state
    if (before !== State.Refusing) this.#tell(result, null, codeOf(error))
    this.#state = State.Over
    this.#hello = null
    if (before === State.Waiting) slots.leave(this)
    else if (before === State.Shaking) slots.end(this)
    ticker.remove(this)
    if (!lines.wantsDebug) return
    const client = this.#stream.digest.remoteIp, name = this.#serverName
    const details = error === null ? { client, name } : { client, name, error: error.message }
    lines.debug('a handshake failed', { listener, reason: result }, () => details)
  }

  #tell(result: HandshakeResult, tls: TlsFacts | null, error: string): void {
    const { listener, ticker } = this.#stage.host, audience = this.#stage.host.tracers()?.handshakeEnded ?? null
    if (audience === null) return
    audience.tell({
      listener, client: this.#tls?.digest ?? this.#stream.digest, result, serverName: this.#serverName, error,
      version: tls === null ? '' : tls.version, resumed: tls !== null && tls.resumed,
      durationMs: this.#saidAt === 0 ? 0 : ticker.clock.exact() - this.#saidAt,
    })
  }
}

function enterSlots(handshake: ServerHandshake): void { handshake.enter() }

function codeOf(error: Error | null): string {
  const { code } = (error ?? {}) as { code?: unknown }
  return typeof code === 'string' ? code : ''
}

/** What OpenSSL calls what went wrong, as far as it is worth a word of its own. */
const RESULTS: readonly (readonly [codes: RegExp, result: HandshakeResult])[] = [
  [/PEER_DID_NOT_RETURN_A_CERTIFICATE/, 'client-certificate'],
  // First of all that are alerts: what the client says is nothing that we found.
  [/_ALERT_/, 'client-alert'],
  [/UNSUPPORTED_PROTOCOL|VERSION_TOO_LOW|UNKNOWN_PROTOCOL|WRONG_VERSION/, 'version'],
  [/NO_SHARED|NO_SUITABLE|NO_CIPHERS|SIGNATURE_ALGORITHM|KEY_SHARE/, 'no-overlap'],
  [/APPLICATION_PROTOCOL/, 'alpn'],
  [/^ECONNRESET$|^EPIPE$|^ETIMEDOUT$/, 'client-gone'],
]

function resultOf(error: Error | null): HandshakeResult {
  if (error === null) return 'client-gone'
  const code = codeOf(error)
  return RESULTS.find(([codes]) => codes.test(code))?.[1] ?? 'protocol'
}
