/** Callbacks whose types promise an answer at once, from an application that has no types. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { atRate, CLOSE, exchange, get, statusOf } from '../clients.ts'

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
