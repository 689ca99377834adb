/** Who has accepted which connection, as the kernel tells it. Linux only. */
import fs from 'node:fs'

interface Row { readonly localPort: number; readonly remotePort: number; readonly inode: string }

const ESTABLISHED = '01'

function established(): Row[] {
  const lines = fs.readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1)
  return lines
    .map(line => line.trim().split(/\s+/))
    .filter(fields => fields[3] === ESTABLISHED)
    .map(fields => ({ localPort: portOf(fields[1]!), remotePort: portOf(fields[2]!), inode: fields[9]! }))
}

function portOf(address: string): number { return Number.parseInt(address.slice(address.indexOf(':') + 1), 16) }

/** Ports of the clients whose connections to `port` the process holds. */
export function acceptedBy(pid: number, port: number): Set<number> {
  const held = new Set(fs.readdirSync(`/proc/${pid}/fd`).map(fd => {
    try { return fs.readlinkSync(`/proc/${pid}/fd/${fd}`) } catch { return '' }
  }))
  const accepted = established().filter(row => row.localPort === port && held.has(`socket:[${row.inode}]`))
  return new Set(accepted.map(row => row.remotePort))
}

/** Connections to `port` that no process has accepted yet. */
export function waitingInQueue(port: number): number {
  return established().filter(row => row.localPort === port && row.inode === '0').length
}

/** Stops the process and returns when it stands still. */
export function freeze(pid: number): void {
  process.kill(pid, 'SIGSTOP')
  while (!/^\d+ \(.*\) T/.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8')));
}
