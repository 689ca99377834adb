/** Who holds which TCP connections on the loopback, from Linux's /proc/net/tcp. The parser is pure. */
import { readFileSync } from 'node:fs'

/** States of include/net/tcp_states.h. */
const STATES: Readonly<Record<string, TcpState>> = {
  '01': 'established', '02': 'syn sent', '03': 'syn received', '04': 'fin wait 1', '05': 'fin wait 2', '06': 'time wait', '07': 'closed',
  '08': 'close wait', '09': 'last ack', '0A': 'listen', '0B': 'closing',
}
export type TcpState =
  | 'established' | 'syn sent' | 'syn received' | 'fin wait 1' | 'fin wait 2' | 'time wait' | 'closed' | 'close wait' | 'last ack'
  | 'listen' | 'closing' | 'other'

export interface TcpSocket {
  readonly localPort: number
  readonly remotePort: number
  readonly state: TcpState
  /** A process has a descriptor of it; what the kernel only buries has none. */
  readonly held: boolean
}

const FIELDS = { local: 1, remote: 2, state: 3, inode: 9 } as const

export function parseTcpTable(text: string): TcpSocket[] {
  const sockets: TcpSocket[] = []
  for (const line of text.split('\n').slice(1)) {
    const fields = line.trim().split(/\s+/)
    const [local, remote, state, inode] = [FIELDS.local, FIELDS.remote, FIELDS.state, FIELDS.inode].map((at) => fields[at] ?? '')
    if (local === undefined || !local.includes(':')) continue
    sockets.push({
      localPort: Number.parseInt(local.split(':')[1] ?? '', 16), remotePort: Number.parseInt(remote?.split(':')[1] ?? '', 16),
      state: STATES[state ?? ''] ?? 'other', held: inode !== '0',
    })
  }
  return sockets
}

export function tcpSockets(): TcpSocket[] {
  return parseTcpTable(readFileSync('/proc/net/tcp', 'latin1'))
}

/** Connections that the listener of `port` accepted and somebody still holds. */
export function acceptedOn(port: number, sockets: readonly TcpSocket[]): number {
  return sockets.filter(({ localPort, state, held }) => localPort === port && held && state !== 'listen').length
}

/** Connections to `port` that somebody holds, in that state. */
export function dialledTo(port: number, state: TcpState, sockets: readonly TcpSocket[]): number {
  return sockets.filter((socket) => socket.remotePort === port && socket.held && socket.state === state).length
}
