/** A real Prometheus on loopback with a folder of its own, for a script: started with a configuration, asked in PromQL. */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { ManagedProcess, temporaryFolder, waitUntilReady } from '../bench/managed-process.ts'

export interface PrometheusOptions {
  /** The program. */
  readonly program: string
  readonly port: number
  /** `host:port` of who is scraped, once a second, as the job `cirque`. */
  readonly target: string
  readonly ruleFiles: readonly string[]
}

/** One series of an answer. */
export interface AnsweredSeries {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

interface Answer<Data> {
  readonly status: 'success' | 'error'
  readonly error?: string
  readonly data: Data
}

interface RuleGroups {
  readonly groups: readonly { readonly rules: readonly { readonly name: string; readonly health: string; readonly lastError?: string }[] }[]
}

const SCRAPED_MAX_MS = 30_000

export class Prometheus {
  readonly #port: number
  readonly #process: ManagedProcess

  private constructor(port: number, managed: ManagedProcess) {
    this.#port = port
    this.#process = managed
  }

  static async start({ program, port, target, ruleFiles }: PrometheusOptions): Promise<Prometheus> {
    const folder = temporaryFolder()
    const config = path.join(folder, 'prometheus.yml')
    // JSON is YAML.
    writeFileSync(config, JSON.stringify({
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
      rule_files: ruleFiles,
      scrape_configs: [{ job_name: 'cirque', static_configs: [{ targets: [target] }] }],
    }))
    const args = [
      `--config.file=${config}`, `--storage.tsdb.path=${path.join(folder, 'data')}`, `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=warn',
    ]
    const managed = new ManagedProcess('prometheus', { command: program, args, cwd: folder }, null)
    await waitUntilReady(managed, port, '/-/ready')
    return new Prometheus(port, managed)
  }

  /** @throws with Prometheus' own words when it cannot answer */
  async query(expression: string): Promise<AnsweredSeries[]> {
    const found = await this.#ask<{ result: { metric: Record<string, string>; value: [number, string] }[] }>(
      `query?query=${encodeURIComponent(expression)}`, expression,
    )
    return found.result.map(({ metric, value: [, value] }) => ({ labels: metric, value: Number(value) }))
  }

  /** The one value of an expression; `otherwise` when it has none. */
  async value(expression: string, otherwise = Number.NaN): Promise<number> { return (await this.query(expression))[0]?.value ?? otherwise }

  /** Rules that cannot be evaluated, and why. */
  async brokenRules(): Promise<string[]> {
    const { groups } = await this.#ask<RuleGroups>('rules', 'the rules')
    const broken = groups.flatMap(group => group.rules).filter(({ health }) => health === 'err')
    return broken.map(({ name, lastError = '' }) => `${name}: ${lastError}`)
  }

  /** Resolves when it has scraped so many times more. @throws when it does not, within half a minute */
  async scrapes(count: number): Promise<void> {
    const scraped = (): Promise<number> => this.value('count_over_time(up{job="cirque"}[1h])', 0)
    const wanted = await scraped() + count
    const late = performance.now() + SCRAPED_MAX_MS
    while (await scraped() < wanted) {
      if (this.#process.ended || performance.now() > late) throw new Error(`prometheus does not scrape:\n${this.#process.output}`)
      await delay(100)
    }
  }

  async #ask<Data>(what: string, shown: string): Promise<Data> {
    const response = await fetch(`http://127.0.0.1:${this.#port}/api/v1/${what}`)
    const answer = await response.json() as Answer<Data>
    if (answer.status !== 'success') throw new Error(`prometheus: ${shown}: ${answer.error ?? response.status}`)
    return answer.data
  }
}
