/** Applications that make mistakes: what one request does in a hook must stay with that request. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { atRate, CLOSE, connected, counters, dial, exchange, get, statusOf } from '../clients.ts'

export const floatingRejections: Attack = {
  name: 'floating-rejections',
  title: 'a filter leaves promises that reject: five a second',
  async strike({ port, seconds }) {
    const done = await atRate(5, seconds, () => void exchange(port, get('/hook/reject', CLOSE)))
    return { done: `${done} rejections`, faults: [] }
  },
}

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

export const hooksThatHang: Attack = {
  name: 'hooks-that-hang',
  title: 'clients of a filter that never resolves leave by FIN, 100 a second; hooks may take 3 s',
  env: { ABUSE_HOOK_MS: '3000' },
  async strike({ port, seconds }) {
    const done = await atRate(100, seconds, () => {
      const socket = dial(port)
      void connected(socket).then(async () => {
        socket.write(get('/hook/hang'))
        await delay(50)
        socket.end()
      })
    })
    return { done: `${done} clients`, faults: [] }
  },
}

export const asyncCallbacks: Attack = {
  name: 'async-callbacks',
  title: 'callbacks that return promises or throw: a connection filter that says no too late, report(), a custom transport',
  async strike({ port, filteredPort, seconds }) {
    let admitted = 0
    let strange = 0
    let asked = 0
    const done = await atRate(30, seconds, (index) => {
      const [toPort, path] = [[filteredPort, '/small'], [port, '/hook/report'], [port, '/hook/no-stream']][index % 3] as [number, string]
      void exchange(toPort, get(path, CLOSE)).then((answer) => {
        asked++
        const status = statusOf(answer)
        if (toPort === filteredPort && status !== 0) admitted++
        if (path === '/hook/no-stream' && status < 500) strange++
      })
    })
    for (let waits = 0; waits < 100 && asked < done; waits++) await delay(100)
    const faults: string[] = []
    if (admitted > 0) faults.push(`a filter that says no let ${admitted} in`)
    if (strange > 0) faults.push(`${strange} exchanges without a stream were not answered with 5xx`)
    if (asked < done) faults.push(`${done - asked} exchanges did not end within 10 s`)
    return { done: `${done} callbacks`, faults }
  },
}

/** First one worker, then, when that was seen to, all of them. */
function stuck(name: string, title: string, loops: number, longestMs: number): Attack {
  return {
    name, title, secondsMin: 15,
    // Each loop costs its worker, which must be killed and replaced.
    bounds: { times: Number.POSITIVE_INFINITY, longestMs, workersEnded: loops, unserved: 2 * loops },
    async strike({ port, seconds }) {
      // A worker takes one of them, and nothing else afterwards.
      for (let sent = 0; sent < loops; sent++) {
        const socket = dial(port)
        await connected(socket)
        socket.write(get('/hook/loop'))
        await delay(100)
      }
      await delay(seconds * 1000)
      return { done: `${loops} endless loops`, faults: [] }
    },
  }
}

export const stuckWorker = stuck('stuck-worker', 'a filter that never returns, in one worker of two', 1, 2500)
/** Requests fall on either worker: with a few loops both have one. */
export const stuckWorkers = stuck('stuck-workers', 'a filter that never returns, in every worker', 4, 5000)
