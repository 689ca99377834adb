/**
 * A socket to the proxy, over TLS where the address says so. Certificates are not looked at, since the address that is dialled is
 * mostly none that they are for; a certificate with the key of another one fails all the same, in the handshake.
 */
import net from 'node:net'
import type tls from 'node:tls'
import type { ProofAddress } from '../config/prove-options.ts'
import type { Clock } from '../primitives/clock.ts'
import { HeldTransport, type Hold } from './held-transport.ts'

/** What a handshake is to be like. */
export interface DialOptions {
  /** One that is to be taken up again. @default null: a full handshake */
  readonly session?: Buffer | null
  /** Where it stops for a while. @default nowhere */
  readonly hold?: Hold
  /** Each session that the server hands out. @default they are not looked at */
  readonly onSession?: (session: Buffer) => void
  /** Protocols to choose from over TLS (ALPN), the best first. @default none is named */
  readonly protocols?: readonly string[]
  /** Whether the session was taken up, and the protocol that was chosen; '': none. @default nobody asks */
  readonly onSecure?: (resumed: boolean, protocol: string) => void
}

export interface DialEvents {
  onEstablished(): void
  onReady(): void
}

/** Its errors and its end are told by the socket that is returned. */
export function dial(address: ProofAddress, clock: Clock, options: DialOptions, events: DialEvents): net.Socket {
  const socket = net.connect({ host: address.host, port: address.port, allowHalfOpen: true, noDelay: true })
  socket.once('connect', () => {
    events.onEstablished()
    if (!address.tls) events.onReady()
  })
  if (!address.tls) return socket
  const transport = options.hold === undefined ? socket : new HeldTransport(socket, options.hold, clock)
  const { connect } = process.getBuiltinModule('node:tls')
  const secured = connect({
    socket: transport as net.Socket, rejectUnauthorized: false, secureContext: sharedContext(),
    ...net.isIP(address.host) === 0 ? { servername: address.host } : null,
    ...options.protocols === undefined ? null : { ALPNProtocols: [...options.protocols] },
    ...options.session === undefined || options.session === null ? null : { session: options.session },
  })
  secured.once('secureConnect', () => {
    options.onSecure?.(secured.isSessionReused(), typeof secured.alpnProtocol === 'string' ? secured.alpnProtocol : '')
    events.onReady()
  })
  if (options.onSession !== undefined) secured.on('session', options.onSession)
  return secured
}

let context: tls.SecureContext | null = null

/** One for all: each of its own would cost more than the handshake. */
function sharedContext(): tls.SecureContext { return context ??= process.getBuiltinModule('node:tls').createSecureContext() }
