/** `cirque tail`: the access log of all workers as it is made, whether one is written or not. */
import type { Command } from 'commander'
import type { AccessRecord } from '../../src/telemetry/exporters/access-line.ts'
import { formatText } from '../../src/telemetry/exporters/access-text.ts'
import { EXIT } from '../exit-codes.ts'
import { chosenFolder } from './chosen-supervisor.ts'
import { look } from './look.ts'
import { countOf, durationOf, lookOptions, matchOf, type LookFlags } from './look-options.ts'
import { Failure } from './shared-options.ts'
import { shownText } from './shown-text.ts'

/** Longest line for people, in characters. */
const MAX_LINE_LENGTH = 4096

export function addTailCommand(program: Command): void {
  lookOptions(program.command('tail').description('the access log of all workers, live; also when none is written'))
    .option('--count <n>', 'ends after so many requests')
    .action(async (options: LookFlags & { readonly count?: string }) => {
      const match = matchOf(options), forMs = durationOf(options.for), count = countOf('--count', options.count)
      const { stdout, stderr } = process, json = options.json === true
      const colours = !json && stdout.isTTY && stdout.hasColors()
      let seen = 0
      const end = await look(await chosenFolder(options), { kind: 'tail', match, count }, forMs, {
        onEntry(entry) {
          seen++
          stdout.write(json ? `${entry}\n` : textOfLine(entry, colours))
        },
        onDropped(dropped) {
          if (json) stdout.write(`${JSON.stringify({ dropped })}\n`)
          else stderr.write(`-- ${dropped} requests are not shown: they came faster than they could be\n`)
        },
        onNote(text) { stderr.write(`-- ${text}\n`) },
      })
      if (end === 'time' && count > 0) throw new Failure(EXIT.failed, `${seen} of ${count} requests came within ${options.for!}`)
    })
}

/** A line of the access log for people. @param line as a worker made it, perhaps of another build */
export function textOfLine(line: string, colours: boolean): string {
  const record = recordOfLine(line)
  return record === null ? `${shownText(line, MAX_LINE_LENGTH)}\n` : formatText(record, MAX_LINE_LENGTH, colours)
}

/** Null for what is no such line. */
function recordOfLine(line: string): AccessRecord | null {
  let fields: Readonly<Record<string, unknown>>
  try { fields = Object(JSON.parse(line)) as typeof fields } catch { return null }
  const text = (name: string): string => typeof fields[name] === 'string' ? fields[name] : ''
  const number = (name: string): number => typeof fields[name] === 'number' ? fields[name] : 0
  const ts = Date.parse(text('ts'))
  if (Number.isNaN(ts)) return null
  const app = Object.entries(Object(fields['app']) as object).filter(([, value]) => ['string', 'number', 'boolean'].includes(typeof value))
  return {
    ts, id: '', trace_id: '', span_id: '', listener: text('listener'), client: text('client'), peer: text('peer'),
    method: text('method'), scheme: text('scheme'), host: text('host'), path: text('path'), query: text('query'), proto: text('proto'),
    tls: text('tls'), sni: text('sni'), alpn: text('alpn'),
    status: number('status'), flag: text('flag'), bytes_in: number('bytes_in'), bytes_out: number('bytes_out'),
    dur_ms: number('dur_ms'), ttfb_ms: null, upstream: text('upstream'), up_status: number('up_status'), up_connect_ms: null,
    up_ttfb_ms: null, attempts: number('attempts'), reused: fields['reused'] === true, limit: text('limit'), ua: text('ua'),
    referer: text('referer'), worker: text('worker'), gen: number('gen'), err: text('err'), w: 1,
    app: app.length === 0 ? null : new Map(app),
  }
}
