/** How the lines of an access log are made, and of which requests: the same in the configuration and of a log that code makes. */
import { choice, defaultsOf, duration, list, number, text, type OptionTable } from '../primitives/option-table.ts'
import { ACCESS_FORMAT_REMEDY, accessFormatRemedy } from './access-format.ts'

export interface AccessLineOptions {
  /**
   * 'json'; 'text', a short line for people, in colours where stdout is a terminal that has them; 'common' and 'combined', as Apache
   * and nginx write them; or a template of fields, such as '$client $method $path $status'. @default 'json'
   */
  format?: string
  /**
   * Share of the lines of ordinary requests that is written, 0 to 1. Those with an error, a status of 500 or more, a flag, and slow
   * ones are always written. 0 writes only these. @default 1
   */
  sample?: number
  /** How long a slow request takes at least, in ms. Its line is always written. 0 calls none slow. @default 1000 */
  slowMs?: number
  /** Address of the client: 'masked' writes its network, /24 of IPv4 and /48 of IPv6. @default 'full' */
  client?: 'full' | 'masked' | 'off'
  /** Keys of queries whose values are not written, besides `token`, `password` and the like, which never are. @default [] */
  redactQueryKeys?: readonly string[]
}

export const ACCESS_LINE_OPTIONS = {
  format: text('json', ACCESS_FORMAT_REMEDY, format => accessFormatRemedy(format) || true),
  sample: number(1, 0, 1, 'writes only these'),
  slowMs: duration(1000, { zero: 'calls none slow' }),
  client: choice('full', ['full', 'masked', 'off']),
  redactQueryKeys: list([], 'keys of queries: 1 to 64 characters of ASCII without blank, %, & and =', isQueryKey),
} satisfies OptionTable<AccessLineOptions>

export const ACCESS_LINE_DEFAULTS: Readonly<Required<AccessLineOptions>> = defaultsOf<AccessLineOptions>(ACCESS_LINE_OPTIONS)

function isQueryKey(key: string): boolean { return /^[!-~]{1,64}$/.test(key) && !/[%&=]/.test(key) }
