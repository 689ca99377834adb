/** What comes behind GOAWAY is not read, however much it is (CVE-2026-27135). */
import { ErrorCode } from '../../../src/protocols/http2/error-code.ts'
import { FrameType } from '../../../src/protocols/http2/frames.ts'
import type { Attack } from '../attack.ts'
import { counters } from '../clients.ts'
import { ask, frame, Http2Attacker } from '../http2-attacker.ts'

const CLOSE_MAX_MS = 5000
/** Streams in a write, none of which may reach the origin. */
const STREAMS = 100

export const http2BehindGoaway: Attack = {
  name: 'http2-behind-goaway',
  title: 'a broken rule, and requests behind it',
  bounds: { growthMB: 64 },
  async strike({ port, originPort, seconds }) {
    const faults = new Set<string>(), late = performance.now() + seconds * 1000
    let cut = 0
    while (performance.now() < late) {
      const attacker = await Http2Attacker.open(port)
      if (attacker === null) {
        faults.add('a connection was refused')
        break
      }
      attacker.send(frame(FrameType.Data, 0, 0, '00'))
      const since = performance.now()
      for (let round = 0; !attacker.closed && performance.now() - since < CLOSE_MAX_MS; round++) {
        attacker.send(Buffer.concat(Array.from({ length: STREAMS }, (_, at) => ask((round * STREAMS + at) * 2 + 1, '/smuggled'))))
        await attacker.breathe()
      }
      if (attacker.goAwayCode !== ErrorCode.ProtocolError) faults.add(`GOAWAY with ${attacker.goAwayCode}`)
      if (!attacker.closed) faults.add('a connection stays open behind GOAWAY')
      cut++
      attacker.socket.destroy()
    }
    const { smuggled } = await counters(originPort)
    if (smuggled > 0) faults.add(`${smuggled} requests behind GOAWAY reached the origin`)
    return { done: `${cut} connections cut`, faults: [...faults] }
  },
}
