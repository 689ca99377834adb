/**
 * What a page tells its reader to do, so that a test can do it word by word:
 * - a block of `sh` is commands, one a line; what stands behind two blanks and `#` is `stays` (it runs in a terminal of its
 *   own), `fails`, for curl and readlink what they print, and for others a remark;
 * - a block of `diff` is an edit: under `--- FILE` the `-` lines, which that file has once, give way to the `+` lines;
 * - a block of `text` is lines that the command before it has printed; one of `text of COMMAND` are lines that show, within a while,
 *   in the terminal where that command stays.
 */
export interface Command {
  readonly kind: 'command'
  readonly text: string
  /** In a terminal of its own. */
  readonly stays: boolean
  readonly fails: boolean
  /** What it prints, to the letter; null when the page does not say. */
  readonly prints: string | null
}
export interface Edit { readonly kind: 'edit'; readonly file: string; readonly from: string; readonly to: string }
export interface Output {
  readonly kind: 'output'
  /** The command that stays in the terminal; '' for the last one that ended. */
  readonly of: string
  readonly lines: readonly string[]
}
export type GuideStep = Command | Edit | Output

const BLOCK = /^```(sh|diff|text)(?: of (.+?))?\n(.*?)^```$/gms
const SAYS_WHAT_IT_PRINTS = /^(?:curl|readlink) /

export function guideSteps(page: string): GuideStep[] {
  return [...page.matchAll(BLOCK)].flatMap(([, language, of = '', body = '']): GuideStep[] => {
    const lines = body.trimEnd().split('\n')
    if (language === 'sh') return lines.map(commandOf)
    return [language === 'diff' ? editOf(lines) : { kind: 'output', of, lines }]
  })
}

function commandOf(line: string): Command {
  const [text = '', remark = ''] = line.split(/ {2,}# /)
  return {
    kind: 'command', text: text.trim(), stays: remark === 'stays', fails: remark === 'fails',
    prints: SAYS_WHAT_IT_PRINTS.test(text) && remark !== '' ? remark : null,
  }
}

function editOf([head = '', ...lines]: readonly string[]): Edit {
  const of = (sign: string): string => lines.filter(line => line.startsWith(sign)).map(line => line.slice(1)).join('\n')
  return { kind: 'edit', file: head.replace(/^--- /, ''), from: of('-'), to: of('+') }
}

/** What differs from run to run: the time of day, how long something took, how wide columns are. */
const VARIES = /(\d\d:\d\d:\d\d|\d+\.\d+(?= m?s\b)| +)/
const IN_ITS_PLACE: readonly (readonly [RegExp, string])[] = [
  [/^\d\d:/, String.raw`\d\d:\d\d:\d\d`], [/^\d+\.\d+$/, String.raw`[\d.]+`], [/^ +$/, ' +'],
]

/** What matches a line of a page in what is really printed. */
export function printedLine(line: string): RegExp {
  const parts = line.trim().split(VARIES).map((part, index) => {
    if (index % 2 === 0) return RegExp.escape(part)
    return IN_ITS_PLACE.find(([varies]) => varies.test(part))![1]
  })
  return new RegExp(`^ *${parts.join('')} *$`, 'm')
}
