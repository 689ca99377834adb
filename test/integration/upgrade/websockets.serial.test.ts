/**
 * WebSockets from clients of either version to origins of either version, through the plainest edge (examples/edge.ts), and through a
 * replacement of its workers: messages of all lengths come back whole, and what a drain ends is ended with Close 1001.
 */
import '../../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { proofAddress, resolveProveOptions } from '../../../src/config/prove-options.ts'
import type { OperationStarted } from '../../../src/ipc/messages.ts'
import { systemClock } from '../../../src/primitives/clock.ts'
import { AnswerGap } from '../../../src/prove/answer-gap.ts'
import { ledgerOf, type ProofSetting } from '../../../src/prove/population.ts'
import {
  connectionCarriers, streamCarriers, type CarrierOwner, type Carriers, type WebSocketCarrier,
} from '../../../src/prove/websocket-carriers.ts'
import { clientFrame, closeCode, FrameReader, Opcode, type Message } from '../../../src/prove/websocket-frames.ts'
import { awaitOutcome } from '../../../supervisor/control-client.ts'
import { SupervisedApp } from '../../support/supervised-app.ts'
import { startOrigin } from '../../support/origin-process.ts'
import { waitFor, within } from '../../support/wait-for.ts'

const EDGE = path.resolve(import.meta.dirname, '../../../examples/edge.ts')
/** Each of the three forms of a length, and what fits into no window of a stream that nobody has enlarged. */
const LENGTHS = [0, 125, 126, 65_535, 65_536, 300_000]

class Client implements CarrierOwner {
  readonly messages: Message[] = []
  open = false
  /** Whatever may not happen. */
  fault = ''
  closedWith: number | null = null
  /** FIN, or END_STREAM. */
  ended = false
  readonly #frames = new FrameReader()
  readonly #carrier: WebSocketCarrier

  constructor(carriers: Carriers) { this.#carrier = carriers.carry(this) }

  send(opcode: Opcode, payload: Buffer): void { this.#carrier.write(clientFrame(opcode, payload)) }
  part(): void { this.#carrier.part() }

  onOpen(): void { this.open = true }
  onRefused(fault: string): void { this.fault ||= fault }

  onBytes(bytes: Buffer): void {
    for (const message of this.#frames.feed(bytes)) {
      if (message.opcode === Opcode.Close) this.closedWith = closeCode(message)
      else this.messages.push(message)
    }
    this.fault ||= this.#frames.fault
  }

  onCut(fault: string, how: string): void {
    this.ended = true
    if (this.closedWith === null || !/^(closed|END_STREAM)$/.test(how)) this.fault ||= `${fault}: ${how}`
  }
}

async function openClient(t: TestContext, carriers: Carriers): Promise<Client> {
  const client = new Client(carriers)
  t.after(() => client.part())
  await waitFor('the handshake', () => client.open || client.fault !== '', { seen: () => client.fault })
  assert.equal(client.fault, '')
  return client
}

async function echoes(client: Client): Promise<void> {
  const sent = LENGTHS.map(length => randomBytes(length)), before = client.messages.length
  for (const payload of sent) client.send(Opcode.Binary, payload)
  await waitFor('all of them back', () => client.messages.length - before === sent.length || client.fault !== '', {
    deadlineMs: 20_000, seen: () => [client.fault, client.messages.length - before],
  })
  assert.equal(client.fault, '')
  assert.deepEqual(client.messages.slice(before).map(({ payload }, index) => payload.equals(sent[index]!)), sent.map(() => true))
}

/** A client that answers Close, as it has to (RFC 6455 5.5.1), and then sees the end. */
async function seesClose(client: Client, code: number): Promise<void> {
  await waitFor(`Close ${code}`, () => client.closedWith !== null || client.fault !== '', { deadlineMs: 20_000, seen: () => client.fault })
  assert.deepEqual([client.closedWith, client.fault], [code, ''])
}

const CLIENTS = { 'HTTP/1.1': false, 'HTTP/2': true } as const
const ORIGINS = { 'HTTP/1.1': '', 'HTTP/2': 'h2c://' } as const

for (const [origin, scheme] of Object.entries(ORIGINS)) {
  test(`WebSockets to an origin of ${origin}, from both versions: whole, and Close 1001 where an upgrade drains them`, async t => {
    const drain = { webSocketDrainMs: 300, closeSpreadMs: 0 }
    const app = await SupervisedApp.start(t, {
      file: EDGE, options: { drain }, log: { access: 'off' }, env: { HTTP_PORT: '0', ORIGIN: scheme + await startOrigin(t) },
    })
    const options = resolveProveOptions({ url: `http://127.0.0.1:${app.ports[0]}`, ws: '/ws', delayMs: 0 })
    const stage = { phase: 'before' as const }
    const setting: ProofSetting = {
      address: proofAddress(options.url), options, clock: systemClock, stage, gap: new AnswerGap(systemClock, stage),
    }
    for (const [version, overHttp2] of Object.entries(CLIENTS)) {
      const ledger = ledgerOf('WebSocket over HTTP/2', setting)
      const carriers = overHttp2 ? streamCarriers(setting, ledger) : connectionCarriers(setting)
      carriers.start()
      t.after(() => carriers.close())
      const [leaver, ...stayers] = [await openClient(t, carriers), await openClient(t, carriers), await openClient(t, carriers)]
      await Promise.all([leaver, ...stayers].map(echoes))
      leaver.send(Opcode.Close, Buffer.from([0x03, 0xE8]))
      await seesClose(leaver, 1000)
      const { id } = await app.ask({ tag: 'upgrade', folder: '', supervisor: 'if-changed' }) as OperationStarted
      // Messages pass for as long as it takes, to the old worker's last moment.
      for (const client of stayers) {
        const ping = systemClock.every(20, () => { if (client.closedWith === null) client.send(Opcode.Binary, Buffer.alloc(200, 'x')) })
        t.after(ping)
      }
      const { result, reason } = await within(`the outcome of ${id}`, awaitOutcome(app.stateDir, id), 60_000)
      assert.deepEqual([version, result, reason], [version, 'committed', ''])
      for (const client of stayers) await seesClose(client, 1001)
      for (const client of stayers) {
        assert.ok(client.messages.slice(LENGTHS.length).every(({ payload }) => payload.equals(Buffer.alloc(200, 'x'))))
        client.send(Opcode.Close, Buffer.from([0x03, 0xE9]))
      }
      await waitFor('the end of all', () => stayers.every(({ ended }) => ended))
      assert.deepEqual(stayers.map(({ fault }) => fault), ['', ''])
      // The next one meets a new worker.
      const next = await openClient(t, carriers)
      await echoes(next)
      next.part()
      assert.deepEqual(ledger.losses, [])
    }
  })
}
