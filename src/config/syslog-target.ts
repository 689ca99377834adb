/**
 * Where a log goes that goes to syslog, as an operator writes it. Read here, where the configuration can refuse what would not do.
 *
 *   syslog:unix:/dev/log                                 a Unix datagram socket of this machine
 *   syslog:udp:10.0.0.5:514?facility=local0&tag=edge     RFC 5426
 *   syslog:tcp:[2001:db8::5]:601                         RFC 6587 with counted octets
 */
import { isIP } from 'node:net'
import { nearestWord } from '../primitives/nearest-word.ts'

export const SYSLOG_PREFIX = 'syslog:'

/** Codes of RFC 5424, section 6.2.1. */
export const FACILITIES: Readonly<Record<string, number>> = {
  kern: 0, user: 1, mail: 2, daemon: 3, auth: 4, syslog: 5, lpr: 6, news: 7, uucp: 8, cron: 9, authpriv: 10, ftp: 11,
  local0: 16, local1: 17, local2: 18, local3: 19, local4: 20, local5: 21, local6: 22, local7: 23,
}

/** What nginx takes when nothing is said. */
const FACILITY = 'local7'
const TAG = 'cirque'

export interface SyslogTarget {
  /** Without what is said behind `?`, for messages: `syslog:udp:10.0.0.5:514`. */
  readonly name: string
  readonly transport: 'unix' | 'udp' | 'tcp'
  /** Of `unix`; otherwise ''. */
  readonly path: string
  /** A name or an address, without brackets, and its port; '' and 0 of `unix`. */
  readonly host: string
  readonly port: number
  readonly facility: number
  /** APP-NAME of the messages. */
  readonly tag: string
}

/** Longest path of a socket address of Linux, in bytes. */
const MAX_SOCKET_PATH = 107
const HOST_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?$/
/** What APP-NAME may be: printable ASCII. */
const TAG_TEXT = /^[!-~]{1,48}$/
/** What an address may look like. */
export const SYSLOG_FORMS = 'syslog:unix:/dev/log, syslog:udp:HOST:PORT or syslog:tcp:HOST:PORT'

/** @param text begins with SYSLOG_PREFIX. @returns a text when it is none: what would do, to be read behind "use" */
export function parseSyslogTarget(text: string): SyslogTarget | string {
  const question = text.indexOf('?'), name = question === -1 ? text : text.slice(0, question)
  const [, transport = '', address = ''] = /^syslog:(unix|udp|tcp):(.+)$/.exec(name) ?? []
  const said = settingsOf(question === -1 ? '' : text.slice(question + 1))
  if (transport === '') return SYSLOG_FORMS
  if (typeof said === 'string') return said
  if (transport === 'unix') {
    const fits = address.startsWith('/') && Buffer.byteLength(address) <= MAX_SOCKET_PATH
    return fits ? { name, transport, path: address, host: '', port: 0, ...said }
      : `the absolute path of a socket, of at most ${MAX_SOCKET_PATH} bytes, such as syslog:unix:/dev/log`
  }
  const colon = address.lastIndexOf(':')
  const written = address.slice(0, Math.max(colon, 0)), digits = address.slice(colon + 1)
  const port = /^\d{1,5}$/.test(digits) ? Number(digits) : 0
  const bracketed = /^\[(.+)\]$/.exec(written)?.[1]
  const isHost = bracketed === undefined ? isIP(written) === 4 || HOST_NAME.test(written) : isIP(bracketed) === 6
  if (!isHost || port < 1 || port > 65_535) {
    return `host and port, such as syslog:${transport}:10.0.0.5:514 or syslog:${transport}:[::1]:514`
  }
  return { name, transport: transport as 'udp' | 'tcp', path: '', host: bracketed ?? written, port, ...said }
}

/** What would do in the place of this target; '' when it is one. */
export function syslogRemedy(text: string): string {
  const target = parseSyslogTarget(text)
  return typeof target === 'string' ? target : ''
}

function settingsOf(text: string): Pick<SyslogTarget, 'facility' | 'tag'> | string {
  let facility = FACILITY, tag = TAG
  for (const pair of text === '' ? [] : text.split('&')) {
    const [, key = pair, value = ''] = /^([^=]*)=(.*)$/.exec(pair) ?? []
    if (key === 'facility') {
      if (!Object.hasOwn(FACILITIES, value)) {
        const near = nearestWord(value, Object.keys(FACILITIES))
        return near === null ? `facility=${Object.keys(FACILITIES).join(', ')}` : `facility=${near}`
      }
      facility = value
    } else if (key === 'tag') {
      if (!TAG_TEXT.test(value)) return 'tag= with 1 to 48 characters of ASCII without blanks'
      tag = value
    } else return `${nearestWord(key, ['facility', 'tag']) ?? 'facility and tag'} behind the ?, such as ?facility=local0&tag=edge`
  }
  return { facility: FACILITIES[facility]!, tag }
}
