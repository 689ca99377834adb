/**
 * The log of a process about itself (start, deaths, drains), not of its traffic. Three levels and plain fields; the
 * entry of a process may put another logger behind it.
 * The plain implementation writes to stderr: short text on a terminal, one JSON object a line otherwise.
 */

import { errorDetail } from '../errors/code-frame.ts'

/** Details of a line, by name: plain values and Errors. One that is undefined is left out. */
export type LogFields = Readonly<Record<string, unknown>>

/** A log of the process itself, not of its traffic. Give `server.start({ log })` your own to have its lines elsewhere. */
export interface ProcessLog {
  /**
   * What nobody wants to read every day: orders to workers, faults that clients bring about. Null while nobody wants it, so that
   * nothing has to be put together for it; a log of your own may leave it out.
   */
  readonly debug?: ((message: string, fields?: LogFields) => void) | null
  /** Something went as it should: a backend gets traffic again, a drain goes on. */
  info(message: string, fields?: LogFields): void
  /** Something that the process copes with, and that an operator should see. */
  warn(message: string, fields?: LogFields): void
  /** Something failed. `fields.stack`, where there is one, says in which code. */
  error(message: string, fields?: LogFields): void
}

export interface ProcessLogOptions {
  /** Who speaks: `supervisor` or `worker 1.0.3`. */
  readonly who: string
  readonly write: (line: string) => void
  /** Text for a person instead of JSON. */
  readonly text: boolean
}

export function createProcessLog(options: ProcessLogOptions): ProcessLog {
  const log = (level: 'info' | 'warn' | 'error') => (message: string, fields: LogFields = {}): void => {
    const { text, who } = options
    options.write(text ? textLine(who, level, message, fields) : jsonLine(who, level, message, fields))
  }
  return { info: log('info'), warn: log('warn'), error: log('error') }
}

/** To this process's stderr. A reader that went away is no reason to end. */
export function stderrLog(who: string, json = false): ProcessLog {
  return createProcessLog({ who, write: line => { process.stderr.write(line) }, text: !json && process.stderr.isTTY === true })
}

/** The same as text wherever stderr leads to: for a person who runs a test. */
export function textLog(who: string): ProcessLog {
  return createProcessLog({ who, write: line => { process.stderr.write(line) }, text: true })
}

/** Writes nothing. */
export const SILENT_LOG: ProcessLog = { info() {}, warn() {}, error() {} }

/** A stack is put on lines of its own, below the lines of source that it begins in; everything else behind the message as key=value. */
function textLine(who: string, level: string, message: string, fields: LogFields): string {
  const { stack, ...rest } = plain(fields)
  const shown = Object.entries(rest).map(([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`).join('')
  const mark = level === 'info' ? '' : level === 'warn' ? 'warning: ' : 'error: '
  const detail = typeof stack === 'string' ? errorDetail(stack) : ''
  return `${who}: ${mark}${message}${shown}\n${detail === '' ? '' : `${detail.replace(/^/gm, '    ')}\n`}`
}

function jsonLine(who: string, level: string, message: string, fields: LogFields): string {
  return `${JSON.stringify({ level, time: Date.now(), pid: process.pid, who, msg: message, ...plain(fields) })}\n`
}

function plain(fields: LogFields): Record<string, unknown> {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined)
  return Object.fromEntries(given.map(([key, value]) => [key, value instanceof Error ? value.message : value]))
}
