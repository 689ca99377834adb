/**
 * What slow peers cost the proxy: nothing that grows. Measured in a process of its own.
 */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { get, head } from '../support/proxy.ts'
import { ProxyProcess } from '../support/proxy-process.ts'
import { RawClient } from '../support/raw-client.ts'
import { ScriptedOrigin, answerOk } from '../support/scripted-origin.ts'
import { waitFor, within } from '../support/wait-for.ts'

const MIB = 1_048_576
const SIZE = 128 * MIB
/** Sent again and again; what arrives is compared with it, so that a buffer that is used twice shows. */
const BLOCK = randomBytes(MIB)

describe('http1 proxy: memory stays flat', () => {
  it('8 downloads of 128 MB by clients that read slowly grow the process by less than 30 MB', async t => {
    const origin = await ScriptedOrigin.start(async exchange => {
      if (exchange.request.target !== '/large') return answerOk(exchange)
      await exchange.send(`HTTP/1.1 200 OK\r\nContent-Length: ${SIZE}\r\n\r\n`)
      // Each send waits until the kernel has the block: how far this comes shows how much the proxy takes ahead.
      for (let sent = 0; sent < SIZE; sent += MIB) await exchange.send(BLOCK)
    })
    t.after(() => origin.stop())
    const proxy = await ProxyProcess.start({ origin: origin.authority })
    t.after(() => proxy.stop())
    const warm = await RawClient.connect({ host: '127.0.0.1', port: proxy.port })
    for (let index = 0; index < 20; index++) {
      await warm.write(get())
      assert.equal((await warm.readResponse()).status, 200)
    }
    warm.destroy()
    const before = await proxy.weigh()

    let highest = 0
    const downloads = Array.from({ length: 8 }, () => new SlowDownload(proxy.port))
    t.after(() => { for (const download of downloads) download.client?.destroy() })
    const finished = Promise.all(downloads.map(download => download.run()))
    await waitFor('every download to be under way', () => downloads.every(download => download.bytes > MIB), { deadlineMs: 20_000 })
    let running = true
    void finished.finally(() => { running = false })
    while (running) highest = Math.max(highest, (await proxy.weigh()).rssBytes)
    await within('the downloads', finished, 60_000)
    for (const download of downloads) assert.equal(download.bytes, SIZE)
    assert.ok(highest - before.rssBytes < 30 * MIB, `grew by ${Math.round((highest - before.rssBytes) / MIB)} MB`)
  })

  it('8 uploads to an origin that does not read stop at the proxy instead of filling it', async t => {
    const origin = await ScriptedOrigin.start(exchange => exchange.request.target === '/stuck' ? exchange.pause() : answerOk(exchange))
    t.after(() => origin.stop())
    const proxy = await ProxyProcess.start({ origin: origin.authority })
    t.after(() => proxy.stop())
    const warm = await RawClient.connect({ host: '127.0.0.1', port: proxy.port })
    await warm.write(get())
    await warm.readResponse()
    warm.destroy()
    const before = await proxy.weigh()
    const clients = await Promise.all(Array.from({ length: 8 }, () => RawClient.connect({ host: '127.0.0.1', port: proxy.port })))
    t.after(() => { for (const client of clients) client.destroy() })
    let taken = 0
    for (const client of clients) {
      await client.write(head('POST /stuck HTTP/1.1', `Content-Length: ${SIZE}`))
      void (async () => {
        for (let sent = 0; sent < SIZE && !client.closed; sent += MIB) {
          await client.write(BLOCK)
          taken += MIB
        }
      })()
    }
    // The clients' kernels take no more once the proxy has stopped reading.
    let last = -1
    let unchanged = 0
    await waitFor('the uploads to come to a halt', () => {
      unchanged = taken === last ? unchanged + 1 : 0
      last = taken
      return unchanged > 150
    }, { deadlineMs: 20_000 })
    assert.ok(taken < 8 * SIZE / 4, `${taken / MIB} MB went into a proxy whose origin reads nothing`)
    const { rssBytes } = await proxy.weigh()
    assert.ok(rssBytes - before.rssBytes < 30 * MIB, `grew by ${Math.round((rssBytes - before.rssBytes) / MIB)} MB`)
  })
})

/** Reads in bursts: a full window for the sender most of the time. */
class SlowDownload {
  readonly #port: number
  client: RawClient | null = null
  bytes = 0
  /** Where the first difference lies; -1: none. */
  #changed = -1

  constructor(port: number) { this.#port = port }

  async run(): Promise<void> {
    const client = this.client = await RawClient.connect({ host: '127.0.0.1', port: this.#port })
    const { socket } = client
    socket.removeAllListeners('data')
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    let headSeen = false
    let burst = 0
    socket.on('data', (bytes: Buffer) => {
      if (!headSeen) {
        const end = bytes.indexOf('\r\n\r\n')
        assert.ok(end !== -1)
        headSeen = true
        this.#check(bytes.subarray(end + 4))
      } else this.#check(bytes)
      if (this.bytes >= SIZE) return resolve()
      if ((burst += bytes.length) > 4 * MIB) {
        burst = 0
        socket.pause()
        setTimeout(() => socket.resume(), 50)
      }
    })
    socket.on('close', () => this.bytes >= SIZE ? resolve() : reject(new Error(`ended after ${this.bytes} bytes`)))
    await client.write(get('/large'))
    await promise
    client.destroy()
    assert.equal(this.#changed, -1, `the download differs from byte ${this.#changed} on`)
  }

  #check(bytes: Buffer): void {
    for (let from = 0; from < bytes.length;) {
      const at = this.bytes % MIB
      const size = Math.min(bytes.length - from, MIB - at)
      if (this.#changed === -1 && bytes.compare(BLOCK, at, at + size, from, from + size) !== 0) this.#changed = this.bytes
      from += size
      this.bytes += size
    }
  }
}
