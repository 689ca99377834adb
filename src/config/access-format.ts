/**
 * The forms of a line of the access log, as an operator names them: a word, or a template such as `$client $method $path $status`.
 * Read here, where the configuration can refuse one that would not do; written by src/telemetry/exporters/access-line.ts and its
 * neighbours.
 */
import { nearestWord } from '../primitives/nearest-word.ts'

/** Fields of a line, in the order of its JSON form. */
export const ACCESS_FIELDS = [
  'ts', 'id', 'trace_id', 'span_id', 'listener', 'client', 'peer', 'method', 'scheme', 'host', 'path', 'query', 'proto', 'tls',
  'sni', 'alpn', 'status', 'flag', 'bytes_in', 'bytes_out', 'dur_ms', 'ttfb_ms', 'upstream', 'up_status', 'up_connect_ms', 'up_ttfb_ms',
  'attempts', 'reused', 'limit', 'ua', 'referer', 'worker', 'gen', 'err', 'w', 'app',
] as const

/** What a template can name besides: two texts that are made of several fields, as nginx calls and writes them. */
export const MADE_FIELDS = ['time_local', 'request'] as const

export type TemplateField = (typeof ACCESS_FIELDS)[number] | (typeof MADE_FIELDS)[number]

/** The forms that have a name. */
export const ACCESS_FORMATS = ['json', 'text', 'common', 'combined'] as const
export type AccessFormatName = (typeof ACCESS_FORMATS)[number]

/** What a template is made of: text that stands there, and fields. `key` names one field of hooks, `tenant` in `$app.tenant`; ''. */
export type TemplatePart = string | { readonly field: TemplateField; readonly key: string }

/** Both together, and 64 characters a field, are less than what a pipe takes in one piece: a line can always be cut so that it fits. */
export const MAX_TEMPLATE_LENGTH = 1024
export const MAX_TEMPLATE_FIELDS = 38

const TEMPLATE_FIELDS: readonly string[] = [...ACCESS_FIELDS, ...MADE_FIELDS]

/** `$name`, `${name}`, `$$`; a `$` before anything else is found as well, and is a mistake. */
const PLACEHOLDER = /\$(?:\$|\{([^{}]*)\}|(app\.[a-z][a-z0-9_]*|[a-z][a-z0-9_]*))?/gi
const KEY_OF_HOOKS = /^[a-z][a-z0-9_]{0,31}$/

/** What would do in the place of this format, to be read behind "use"; '' when it is one. */
export function accessFormatRemedy(format: string): string {
  if ((ACCESS_FORMATS as readonly string[]).includes(format)) return ''
  if (format.includes('$')) {
    const parts = parseTemplate(format)
    return typeof parts === 'string' ? parts : ''
  }
  const near = nearestWord(format, ACCESS_FORMATS)
  return near ?? ACCESS_FORMAT_REMEDY
}

export const ACCESS_FORMAT_REMEDY = `${ACCESS_FORMATS.join(', ')}, or a template such as '$client $method $path $status'`

/** @returns its parts, texts and fields by turns; a text when it is none, which says what would do. */
export function parseTemplate(template: string): readonly TemplatePart[] | string {
  if (template.length > MAX_TEMPLATE_LENGTH) return `a template of at most ${MAX_TEMPLATE_LENGTH} characters`
  if (!/^[\x20-\x7E]*$/.test(template)) return 'a template of printable ASCII, with \\t where a tab is wanted'
  const parts: TemplatePart[] = []
  let literal = '', fields = 0, at = 0
  for (const match of template.matchAll(PLACEHOLDER)) {
    literal += unescaped(template.slice(at, match.index))
    at = match.index + match[0].length
    if (match[0] === '$$') {
      literal += '$'
      continue
    }
    const name = match[1] ?? match[2] ?? ''
    if (name === '') return 'the name of a field behind each $, or $$ for the sign itself'
    const dot = name.indexOf('.')
    const field = dot === -1 ? name : name.slice(0, dot), key = dot === -1 ? '' : name.slice(dot + 1)
    if (dot !== -1 && (field !== 'app' || !KEY_OF_HOOKS.test(key))) {
      return `$app.name in the place of ${match[0]}, where a hook has named it`
    }
    if (!TEMPLATE_FIELDS.includes(field)) return unknownField(match[0], field)
    if (++fields > MAX_TEMPLATE_FIELDS) return `at most ${MAX_TEMPLATE_FIELDS} fields`
    if (literal !== '') parts.push(literal)
    literal = ''
    parts.push({ field: field as TemplateField, key })
  }
  literal += unescaped(template.slice(at))
  if (fields === 0) return 'a template with at least one field, such as $status'
  return literal === '' ? parts : [...parts, literal]
}

function unknownField(written: string, field: string): string {
  const near = nearestWord(field, TEMPLATE_FIELDS)
  return near === null ? `one of ${TEMPLATE_FIELDS.map(name => `$${name}`).join(' ')} in the place of ${written}`
    : `$${near} in the place of ${written}`
}

/** A tab cannot be written otherwise, and is what no field has in it. */
function unescaped(literal: string): string { return literal.replaceAll('\\t', '\t') }
