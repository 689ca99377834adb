/** A DNS server on a loopback UDP port that answers A and AAAA from a table, just enough of RFC 1035 for a resolver's questions. */
import dgram from 'node:dgram'
import type { AddressInfo } from 'node:net'

export interface StubAnswer {
  readonly addresses: readonly string[]
  readonly ttl: number
}

/** Response codes (RFC 1035 4.1.1). */
export const Rcode = { NoError: 0, ServerFailure: 2, NameError: 3 } as const

const TYPE_A = 1, TYPE_AAAA = 28

export class DnsStub {
  /** `a name`, `aaaa name` to an answer or a code; what is not here does not exist. */
  readonly table = new Map<string, StubAnswer | number>()
  readonly asked: string[] = []
  readonly #socket = dgram.createSocket('udp4')

  async start(): Promise<string> {
    this.#socket.on('message', (message, from) => this.#socket.send(this.#answer(message), from.port, from.address))
    await new Promise<void>((resolve, reject) => { this.#socket.once('error', reject).bind(0, '127.0.0.1', resolve) })
    return `127.0.0.1:${(this.#socket.address() as AddressInfo).port}`
  }

  stop(): void { this.#socket.close() }

  #answer(query: Buffer): Buffer {
    const labels: string[] = []
    let at = 12
    for (let length = query[at]!; length > 0; length = query[at]!) {
      labels.push(query.latin1Slice(at + 1, at + 1 + length))
      at += 1 + length
    }
    const type = query.readUInt16BE(at + 1)
    const end = at + 5
    const key = `${type === TYPE_A ? 'a' : type === TYPE_AAAA ? 'aaaa' : String(type)} ${labels.join('.').toLowerCase()}`
    this.asked.push(key)
    const found = this.table.get(key) ?? Rcode.NameError
    const answer = typeof found === 'number' ? { addresses: [], ttl: 0 } : found
    const head = Buffer.alloc(12)
    query.copy(head, 0, 0, 2)
    head.writeUInt16BE(0x8180 | (typeof found === 'number' ? found : 0), 2)
    head.writeUInt16BE(1, 4)
    head.writeUInt16BE(answer.addresses.length, 6)
    const records = answer.addresses.map(address => {
      const bytes = type === TYPE_A ? Buffer.from(address.split('.').map(Number)) : expandV6(address)
      const record = Buffer.alloc(12)
      record.writeUInt16BE(0xc00c, 0)
      record.writeUInt16BE(type, 2)
      record.writeUInt16BE(1, 4)
      record.writeUInt32BE(answer.ttl, 6)
      record.writeUInt16BE(bytes.length, 10)
      return Buffer.concat([record, bytes])
    })
    return Buffer.concat([head, query.subarray(12, end), ...records])
  }
}

function expandV6(address: string): Buffer {
  const [left = '', right = ''] = address.split('::')
  const groups = (text: string): number[] => text === '' ? [] : text.split(':').map(group => Number.parseInt(group, 16))
  const [before, after] = [groups(left), groups(right)]
  const bytes = Buffer.alloc(16)
  before.forEach((group, index) => bytes.writeUInt16BE(group, index * 2))
  after.forEach((group, index) => bytes.writeUInt16BE(group, 16 - (after.length - index) * 2))
  return bytes
}
