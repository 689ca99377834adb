/**
 * Options of a connected socket that Node.js cannot set, set by system calls (ipc/system-calls.ts): the DSCP of its packets, and
 * the time for which the kernel repeats what nobody acknowledges.
 *
 * The calls are loaded when a peer asks for the first of them. Where there are none such a peer cannot be connected to, which is
 * said by NOT_IMPLEMENTED: a mark that a network relies on must not be left out in silence.
 */
import { isIP } from 'node:net'
import { ProxyError } from '../errors/proxy-error.ts'
import { loadSystemCalls, type SystemCallsState } from '../ipc/system-calls.ts'
import type { Peer } from '../peer/peer.ts'
import type { TcpStream } from '../protocols/tcp/tcp-stream.ts'

/** Null: they are being loaded, or nobody has asked. */
let state: SystemCallsState | null = null
let loading: Promise<SystemCallsState> | null = null

/** This peer asks for something that takes a system call. A Unix socket has no packets. */
export function wantsMarks({ address, connectProxy, options }: Peer): boolean {
  if (options.dscp === 0 && options.tcpUserTimeoutMs === 0) return false
  return options.customL4 === null && (connectProxy === null ? address : connectProxy.nextHop).kind === 'tcp'
}

/** Whether it is known by now that marks can be set, or why not; null: ask again when `whenMarksAreKnown` has settled. */
export function marksFault(peer: Peer): ProxyError | '' | null {
  if (state === null) return null
  if (state.available) return ''
  const what = `peer.${peer.options.dscp === 0 ? 'tcpUserTimeoutMs' : 'dscp'} takes a system call, and there are none here`
  return new ProxyError('NOT_IMPLEMENTED', 'internal', `${peer.name}: ${what} (${state.reason}); leave it out`)
}

/** Never rejects. */
export async function whenMarksAreKnown(): Promise<void> { state = await (loading ??= loadSystemCalls()) }

/**
 * Sets what the peer asks for; only where `marksFault` says ''. What is sent from now on is marked, the handshake is not.
 * @throws SystemCallError, and where this system has no such option
 */
export function setMarks(stream: TcpStream, { options }: Peer): void {
  const { dscp, tcpUserTimeoutMs } = options
  const fd = stream.descriptor
  if (state === null || !state.available || fd < 0) return
  if (dscp !== 0) state.calls.setDscp(fd, isIP(stream.socket.remoteAddress ?? '') === 6 ? 6 : 4, dscp)
  if (tcpUserTimeoutMs !== 0) state.calls.setUserTimeout(fd, tcpUserTimeoutMs)
}
