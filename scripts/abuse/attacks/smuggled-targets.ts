/** What a hook makes of a target is checked where it is written, whichever hook it was. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { atRate, CLOSE, counters, exchange, get } from '../clients.ts'

const SMUGGLED = encodeURIComponent('x HTTP/1.1\r\nHost: origin\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: origin\r\nX-Rest:')

export const smuggledTargets: Attack = {
  name: 'smuggled-targets',
  title: 'hooks decode a path and send it on, so that it holds a second request',
  async strike({ port, originPort, seconds }) {
    const hooks = ['proxyUpstreamFilter', 'upstreamPeer', 'connectedToUpstream']
    const before = await counters(originPort)
    const done = await atRate(30, seconds, (index) => {
      void exchange(port, get(`/hook/decode/${SMUGGLED}?in=${hooks[index % hooks.length]}`, CLOSE))
    })
    await delay(200)
    const { smuggled } = await counters(originPort)
    const reached = smuggled - before.smuggled
    return { done: `${done} targets`, faults: reached === 0 ? [] : [`${reached} smuggled requests reached the origin`] }
  },
}
