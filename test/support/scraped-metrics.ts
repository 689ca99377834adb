/** /metrics of an admin listener, read as Prometheus would, and what must hold from one reading to the next. */
import assert from 'node:assert/strict'
import http from 'node:http'

/** By series as it is written: `name{label="value"}`. */
export type Samples = ReadonlyMap<string, number>

export async function scrape(address: string, headers: Readonly<Record<string, string>> = {}): Promise<{ text: string; samples: Samples }> {
  const text = await fetchText(`http://${address}/metrics`, headers)
  return { text, samples: samplesOf(text) }
}

function fetchText(url: string, headers: Readonly<Record<string, string>>): Promise<string> {
  return new Promise((resolve, reject) => {
    http.get(url, { agent: false, headers }, response => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => { text += chunk }).on('end', () => {
        if (response.statusCode === 200) resolve(text)
        else reject(new Error(`${url} answered ${response.statusCode}: ${text}`))
      })
    }).on('error', reject)
  })
}

function samplesOf(text: string): Samples {
  const samples = new Map<string, number>()
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue
    const blank = line.lastIndexOf(' ')
    const series = line.slice(0, blank)
    assert.ok(!samples.has(series), `${series} is there twice`)
    samples.set(series, Number(line.slice(blank + 1)))
  }
  return samples
}

/** Of all series of a name whose labels match. */
export function sumOf(samples: Samples, name: string, labels = /(?:)/): number {
  let sum = 0
  for (const [series, value] of samples) {
    if ((series === name || series.startsWith(`${name}{`)) && labels.test(series)) sum += value
  }
  return sum
}

/** Reads again and again; once a counter has gone backwards, or is gone, whatever is asked of it throws that. */
export class CounterWatch {
  readonly #address: () => string
  #last: Samples = new Map()
  #running = true
  #scrapes = 0
  #fault: unknown = null
  readonly #watching: Promise<void>

  /** @param address '': nothing listens at the moment */
  constructor(address: () => string) {
    this.#address = address
    this.#watching = this.#watch().catch((error: unknown) => { this.#fault = error })
  }

  get scrapes(): number {
    if (this.#fault !== null) throw this.#fault
    return this.#scrapes
  }

  async stop(): Promise<void> {
    await this.abandon()
    if (this.#fault !== null) throw this.#fault
  }

  /** For the end of a test that has failed: never rejects, as what ends behind it would be left. */
  async abandon(): Promise<void> {
    this.#running = false
    await this.#watching
  }

  async #watch(): Promise<void> {
    while (this.#running) {
      const address = this.#address()
      let samples: Samples
      try { samples = (await scrape(address)).samples } catch { continue }
      for (const [series, value] of this.#last) {
        if (!isCounter(series)) continue
        const now = samples.get(series)
        assert.ok(now !== undefined && now >= value, `${series} was ${value}, and is ${now}`)
      }
      this.#last = samples
      this.#scrapes++
    }
  }
}

function isCounter(series: string): boolean {
  // The supervisor's own processor time is that of the process, which an adoption replaces.
  return /(_total|_bucket|_sum|_count)(\{|$)/.test(series) && !series.startsWith('process_')
}
