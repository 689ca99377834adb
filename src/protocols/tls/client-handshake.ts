/**
 * A TLS handshake with a server, and the judgement of what it showed.
 *
 *   Shaking --secure, verified--> Over: the stream belongs to the waiter
 *      +--failed, or not verified--> Over: the stream is closed
 *
 * The engine is told to let every certificate pass, and is asked for its verdict afterwards: a refusal of its own is an error
 * without a kind, and a callback that throws would end the process. Chain and name are two questions, and only what the
 * security says turns either off. A session that is taken up again stands for the verdict of the handshake that it was made in
 * (client-sessions.ts), except that time goes on.
 *
 * Has no clock: who dials limits the time and calls `cancel`.
 */
import type { X509Certificate } from 'node:crypto'
import type tls from 'node:tls'
import { isMadeFor } from '../../certificates/server-name.ts'
import { ProxyError } from '../../errors/proxy-error.ts'
import type { ByteStream } from '../byte-stream.ts'
import { chainFault, handshakeFault, type HandshakeFault } from './handshake-faults.ts'
import type { ClientSessions, KeptSession } from './client-sessions.ts'
import { onNewSession, offerSession } from './tls-socket.ts'
import { connectTls, type HandshakeOwner, type TlsStream } from './tls-stream.ts'

/** What is asked for, and what is insisted on. */
export interface ClientSecurity {
  /** For messages: `10.0.0.1:443`. */
  readonly peer: string
  readonly context: tls.SecureContext
  /** SNI; '' for none. */
  readonly serverName: string
  /** Names and addresses of which the certificate must have one; none: the name is not checked. */
  readonly names: readonly string[]
  /** Whether the chain is verified. */
  readonly verifyChain: boolean
  /** Offered by ALPN, the preferred one first; none: nothing is. */
  readonly protocols: readonly string[]
  /** Whether there is a certificate to show. */
  readonly hasCertificate: boolean
  /** Of everything above that decides whether a session is good, and of whom it was made with. */
  readonly sessionKey: string
}

export interface ClientHandshakeWaiter {
  /** Verified. Set `stream.owner` in this call. */
  onSecured(stream: TlsStream): void
  onNotSecured(error: ProxyError): void
}

const HandshakeState = { Shaking: 0, Over: 1 } as const
type HandshakeState = (typeof HandshakeState)[keyof typeof HandshakeState]

export class ClientHandshake implements HandshakeOwner {
  #state: HandshakeState = HandshakeState.Shaking
  readonly #security: ClientSecurity
  readonly #sessions: ClientSessions
  /** Null once it was told: what hears of sessions stays with the connection, and nothing else does. */
  #waiter: ClientHandshakeWaiter | null
  readonly #stream: TlsStream
  /** What was offered to be taken up again; null: nothing. */
  readonly #offered: KeptSession | null
  /** Came before it was known whether it is worth anything (TLS 1.2). */
  #unproven: Buffer | null = null
  #verified = false
  /** End of the certificate that was verified, in ms since 1970. */
  #validTo = 0

  /**
   * Takes the stream over and begins.
   * @param early bytes of it that were read before; null: none
   */
  constructor(below: ByteStream, early: Buffer | null, security: ClientSecurity, sessions: ClientSessions, waiter: ClientHandshakeWaiter) {
    this.#security = security
    this.#sessions = sessions
    this.#waiter = waiter
    this.#offered = sessions.find(security.sessionKey)
    const { context, protocols, serverName } = security
    const stream = connectTls(below, early, serverName, {
      secureContext: context, ...protocols.length === 0 ? null : { ALPNProtocols: [...protocols] },
    }, this)
    this.#stream = stream
    onNewSession(stream.socket, session => this.#onSession(session))
    if (this.#offered !== null) offerSession(stream.socket, this.#offered.session)
    stream.startClient()
  }

  /** Ends it without a callback. */
  cancel(): void {
    if (!this.#end()) return
    this.#waiter = null
    this.#stream.cancelHandshake()
  }

  onSecure(stream: TlsStream): void {
    if (!this.#end()) return
    const { resumed } = stream.digest.tls!, offered = this.#offered
    const fault = resumed && offered !== null ? this.#judgeAgain(stream, offered) : this.#judge(stream)
    if (offered !== null && (fault !== null || !resumed)) this.#sessions.drop(this.#security.sessionKey, offered)
    if (fault !== null) {
      stream.destroy(true)
      this.#refuse(fault, null)
      return
    }
    this.#verified = true
    if (this.#unproven !== null) this.#onSession(this.#unproven)
    this.#unproven = null
    this.#takeWaiter().onSecured(stream)
  }

  onHandshakeFailed(error: Error | null): void {
    if (!this.#end()) return
    const { hasCertificate, sessionKey } = this.#security
    if (this.#offered !== null) this.#sessions.drop(sessionKey, this.#offered)
    this.#refuse(handshakeFault(error, { sawCertificate: this.#stream.sawCertificate, hasCertificate }), error)
  }

  /** Also long after the handshake: servers of TLS 1.3 hand them out whenever they want. */
  #onSession(session: Buffer): void {
    if (this.#verified) this.#sessions.keep(this.#security.sessionKey, session, this.#validTo)
    else this.#unproven = session
  }

  #judge(stream: TlsStream): HandshakeFault | null {
    const { names, verifyChain } = this.#security
    const certificate = stream.socket.getPeerX509Certificate()
    if (certificate !== undefined) this.#validTo = certificate.validToDate.getTime()
    if (verifyChain) {
      const { verifyError } = stream
      if (verifyError !== '') return chainFault(verifyError)
      if (certificate === undefined) return { kind: 'TLS_BAD_CERTIFICATE', text: 'it showed no certificate' }
    }
    const isNamed = names.length === 0 || names.some(name => certificate !== undefined && isMadeFor(certificate, name))
    return isNamed ? this.#judgeProtocol(stream) : wrongName(names, certificate)
  }

  /** Chain and name were judged under the same key. */
  #judgeAgain(stream: TlsStream, { validTo }: KeptSession): HandshakeFault | null {
    this.#validTo = validTo
    if (!this.#security.verifyChain) return this.#judgeProtocol(stream)
    const { verifyError } = stream
    if (verifyError !== '') return chainFault(verifyError)
    return validTo < Date.now() ? chainFault('CERT_HAS_EXPIRED') : this.#judgeProtocol(stream)
  }

  #judgeProtocol(stream: TlsStream): HandshakeFault | null {
    const { protocols } = this.#security
    const { alpn } = stream.digest.tls!
    if (alpn === '' && protocols.length === 1 && protocols[0] === 'h2') {
      return { kind: 'TLS_ALPN_MISMATCH', text: 'it speaks no HTTP/2, see `alpn`' }
    }
    if (alpn === '' || protocols.includes(alpn)) return null
    return { kind: 'TLS_ALPN_MISMATCH', text: `it chose the protocol ${alpn}, which was not offered` }
  }

  #refuse({ kind, text }: HandshakeFault, cause: Error | null): void {
    const said = `${this.#security.peer}: ${text}`
    // Nothing of a request was sent: another backend may do better.
    this.#takeWaiter().onNotSecured(new ProxyError(kind, 'upstream', said, { retry: 'always', cause: cause ?? undefined }))
  }

  #takeWaiter(): ClientHandshakeWaiter {
    const waiter = this.#waiter!
    this.#waiter = null
    return waiter
  }

  /** @returns false when it was over already. */
  #end(): boolean {
    if (this.#state === HandshakeState.Over) return false
    this.#state = HandshakeState.Over
    return true
  }
}

/** So much of a certificate's names stands in a message. */
const NAMES_SHOWN = 200

function wrongName(names: readonly string[], certificate: X509Certificate | undefined): HandshakeFault {
  const has = certificate?.subjectAltName ?? certificate?.subject ?? 'no names'
  const shown = has.length > NAMES_SHOWN ? `${has.slice(0, NAMES_SHOWN)}...` : has
  const found = `its certificate is not for ${names.join(' or ')} but for ${shown.replaceAll('\n', ', ')}`
  return { kind: 'TLS_WRONG_NAME', text: `${found}; name the server by \`sni\`, or by \`alternativeName\`, as its certificate does` }
}
