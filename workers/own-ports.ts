/**
 * Ports that an application opens itself, with a `net.Server`, an `http.Server` or a UDP socket of its own. In a worker Node.js asks
 * the cluster's primary for their sockets. Ours gives out none, and the port would never listen, without a word.
 *
 * What works in a worker is `reusePort`, with which each one has a socket of its own on the same address, and `exclusive`, for an
 * address that no other worker has, or a Unix path of its own. Neither asks the primary, and neither is touched here.
 * Invariant: nothing here is on the way of a listener of ours, which listens on what it inherited.
 */
import cluster from 'node:cluster'
import diagnostics from 'node:diagnostics_channel'
import type { EventEmitter } from 'node:events'
import net from 'node:net'
import { hostAndPort } from '../src/ipc/server-description.ts'

/** Told synchronously by every `net.Server` that was asked to listen, before it begins. */
const LISTEN = 'tracing:net.server.listen:asyncStart'

interface ListenMessage { readonly server: object; readonly options: unknown }

/** What Node.js asks the primary for. */
interface WantedSocket {
  readonly address?: string | null
  /** -1: a Unix path. */
  readonly port?: number | null
  /** `udp4`, `udp6`; a number for a stream. */
  readonly addressType?: string | number | null
  readonly fd?: number | null
}

/** Of `node:cluster` in a worker: where `net` and `dgram` ask. Without a name in the documentation, and as it is since 2012. */
interface AskingCluster {
  _getServer?: (server: EventEmitter, wanted: WantedSocket, answer: unknown) => void
}

/**
 * For a worker: whoever asks the primary hears of it as of an address in use, by an 'error' of the server. Where nothing listens to
 * those, it ends the start of the worker, which says so.
 */
export function refuseSharedPorts(): void {
  const places = new WeakMap<object, string>()
  diagnostics.subscribe(LISTEN, message => {
    const { server } = message as ListenMessage
    // Before it asks, a name may have been resolved, and the stack is then none of the application's.
    places.set(server, framesOfCaller())
  })
  const asking = cluster as AskingCluster
  asking._getServer = (server, wanted) => {
    const error = ownPortError(wanted, places.get(server) ?? '')
    process.nextTick(() => server.emit('error', error))
  }
}

/** For the description of an application: what a worker would refuse is told before there is one. */
export function onSharedPort(refused: (error: Error) => void): void {
  diagnostics.subscribe(LISTEN, message => {
    const wanted = sharedSocket((message as ListenMessage).options)
    if (wanted !== null) refused(ownPortError(wanted, framesOfCaller()))
  })
}

/** @returns null when the primary would not be asked. */
function sharedSocket(options: unknown): WantedSocket | null {
  const { port, path, fd, host, exclusive, reusePort, _handle, handle } = (options ?? {}) as Readonly<Record<string, unknown>>
  if (exclusive === true || reusePort === true || (_handle ?? handle) !== undefined) return null
  if (typeof port === 'number' || typeof port === 'string') return { address: typeof host === 'string' ? host : null, port: Number(port) }
  if (typeof path === 'string') return { address: path, port: -1 }
  return typeof fd === 'number' ? { fd } : null
}

function isDatagram({ addressType }: WantedSocket): boolean { return typeof addressType === 'string' }

function wantedText({ address, port, fd }: WantedSocket): string {
  if (typeof fd === 'number' && fd >= 0) return `descriptor ${fd}`
  if (port === -1) return `the path ${String(address)}`
  return typeof address === 'string' ? hostAndPort(address, Number(port)) : `port ${String(port)}`
}

/** How to open it so that the primary is not asked. */
function ownWay(wanted: WantedSocket): string {
  if (isDatagram(wanted)) return 'create the socket with reusePort: true'
  if (wanted.port === -1) return 'take a path for each worker and add exclusive: true'
  if (typeof wanted.fd === 'number' && wanted.fd >= 0) return 'by its address, with reusePort: true'
  return 'add reusePort: true, with which each worker listens there'
}

/** Of the stack those lines that are above `listen()`. */
function framesOfCaller(): string {
  const trace = { stack: '' }
  Error.captureStackTrace(trace, net.Server.prototype.listen)
  return trace.stack.slice(trace.stack.indexOf('\n') + 1)
}

/** @param frames where the application asked; '' when that is not known */
function ownPortError(wanted: WantedSocket, frames: string): Error {
  const error = new Error(
    `the application opens ${wantedText(wanted)} itself, which cannot listen in a worker; for clients of the proxy use addTcp() or `
    + `addUnix(), otherwise open it in start() of a background service and ${ownWay(wanted)}`,
  )
  error.stack = `Error: ${error.message}\n${frames}`
  return error
}
