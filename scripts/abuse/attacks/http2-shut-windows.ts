/** Downloads whose windows stay shut, or open a byte at a time, end in half a minute, and hold little until then (CVE-2019-9511, 9517). */
import { setTimeout as delay } from 'node:timers/promises'
import { ErrorCode } from '../../../src/protocols/http2/error-code.ts'
import type { Attack, Strike, Target } from '../attack.ts'
import { ask, Http2Attacker, limitsPassed, windowUpdate } from '../http2-attacker.ts'

const CONNECTIONS = 4
const STREAMS = 100
const DRIP_MS = 250
/** The rate of a reader is looked at over 30 s. */
const SECONDS = 40
/** Of those that were begun: a busy machine sheds some of them. */
const LEAST = 40

const ids = Array.from({ length: STREAMS }, (_, at) => at * 2 + 1)

/** @param drips whether each window opens a byte now and then */
async function strike({ port, seconds, adminPort }: Target, drips: boolean): Promise<Strike> {
  const attackers: Http2Attacker[] = [], faults: string[] = []
  for (let count = 0; count < CONNECTIONS; count++) {
    const attacker = await Http2Attacker.open(port, 0)
    if (attacker === null) continue
    attackers.push(attacker)
    attacker.send(Buffer.concat(ids.map(stream => ask(stream, '/endless'))))
  }
  const served = (): number => attackers.reduce((sum, attacker) => sum + attacker.served, 0)
  const resetsOf = (attacker: Http2Attacker): number => attacker.resets.get(ErrorCode.Cancel) ?? 0
  for (const late = performance.now() + seconds * 1000; performance.now() < late;) {
    if (attackers.every(attacker => attacker.ended === STREAMS)) break
    if (drips) for (const attacker of attackers) attacker.send(Buffer.concat(ids.map(stream => windowUpdate(stream, 1))))
    await delay(DRIP_MS)
  }
  const cancelled = attackers.reduce((sum, attacker) => sum + resetsOf(attacker), 0)
  if (served() < LEAST) faults.push(`only ${served()} downloads began`)
  if (cancelled < served()) faults.push(`${cancelled} of ${served()} downloads were reset with CANCEL`)
  for (const { socket } of attackers) socket.destroy()
  if (!(await limitsPassed(adminPort)).has('send-bytes-per-second')) faults.push('send-bytes-per-second was not counted')
  return { done: `${cancelled} downloads cut`, faults }
}

export const http2ShutWindows: readonly Attack[] = [false, true].map(drips => ({
  name: drips ? 'http2-dripping-windows' : 'http2-shut-windows',
  title: `${CONNECTIONS * STREAMS} downloads whose windows ${drips ? 'open a byte at a time' : 'stay shut'}`,
  secondsMin: SECONDS,
  bounds: { growthMB: 64 },
  strike: (target: Target) => strike(target, drips),
}))
