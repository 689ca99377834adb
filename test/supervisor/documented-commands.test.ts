/**
 * Every `cirque ...` that a page, an example, a unit or a message of ours tells a reader to type is one that the command
 * line takes: its command, its options, its arguments, and durations that are durations. Nothing is run.
 */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { CommanderError, type Command } from 'commander'
import { listPages } from '../../scripts/page-links.ts'
import { listTypeScript } from '../../scripts/source-text.ts'
import { parseDuration } from '../../src/config/units.ts'
import { createCommandLine } from '../../supervisor/cli.ts'
import { completedCommands } from '../../supervisor/commands/completed-commands.ts'

const ROOT = path.join(import.meta.dirname, '../..')

interface Said { readonly where: string; readonly words: readonly string[] }

/** What is in backticks, in blocks of commands, in a file's header of commands to try, and in lines of a unit. */
const QUOTED = /(?<!`)\\?`([^`\n]+?)\\?`(?!`)/g
const SHELL_BLOCK = /^```sh\n(.*?)^```$/gms
const TO_TRY = /^ \* {3}(.+)$/gm
const UNIT_LINE = /^Exec\w+=(.+)$/gm

/** A command begins with us: behind variables, by way of npx, by any path. */
const OURS = /^(?:[A-Z_]+=\S+ )*(?:exec )?(?:npx |[\w./-]*\/)?cirque (.+)$/

function* saidIn(file: string, text: string): Generator<Said> {
  const pieces = file.endsWith('.md')
    ? [...[...text.matchAll(SHELL_BLOCK)].flatMap(([, body = '']) => body.split('\n')), ...quotedIn(text.replaceAll(/^```.*?^```$/gms, ''))]
    : file.endsWith('.service') ? [...text.matchAll(UNIT_LINE)].map(([, line = '']) => line)
    : [...[...text.matchAll(TO_TRY)].map(([, line = '']) => line), ...quotedIn(text)]
  for (const piece of pieces) {
    // A remark, output that goes elsewhere, and in a table a bar of the text itself.
    const line = piece.split(/ +# | (?:\\?\||>) /)[0]!.replaceAll('\\|', '|')
    for (const command of line.split(/ (?:&&|;) /)) {
      const rest = OURS.exec(command.trim())?.[1]
      // Text that code puts together is none yet.
      if (rest === undefined || rest === '...' || rest.includes('${')) continue
      for (const words of alternatives(rest)) yield { where: `${file}: ${command.trim()}`, words }
    }
  }
}

function quotedIn(text: string): string[] { return [...text.matchAll(QUOTED)].map(([, piece = '']) => piece) }

/** What may be left out is said, and of `a|b` each once. */
function alternatives(synopsis: string): string[][] {
  const words = synopsis.replaceAll(/[[\]]/g, '').replaceAll(/<\w+>/g, 'VALUE').split(/ +/)
  return words.reduce<string[][]>((lines, word) => lines.flatMap(line => word.split('|').map(one => [...line, one])), [[]])
}

/** The command line as it is, which does nothing. */
function idleCommandLine(): Command {
  const program = createCommandLine()
  const idle = (command: Command): void => {
    command.configureOutput({ writeOut() {}, writeErr() {} })
    if (command.commands.length === 0) command.action(() => {})
    for (const below of command.commands) idle(below)
  }
  idle(program)
  return program
}

const COMMANDS = completedCommands(createCommandLine())
const DURATIONS = new Set(COMMANDS.flatMap(({ options }) => options)
  .filter(({ value }) => ['duration', 'interval'].includes(value?.name ?? '')).flatMap(({ flags }) => flags))

/** @returns '' when it would be run, or is the name of a command without what belongs to it */
async function complaintAbout(words: readonly string[]): Promise<string> {
  if (COMMANDS.some(command => command.words.join(' ') === words.join(' '))) return ''
  try {
    await idleCommandLine().parseAsync(words, { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.exitCode !== 0) return error.message
  }
  const wrong = words.find((word, index) => DURATIONS.has(words[index - 1] ?? '') && !word.startsWith('-') && !isDuration(word))
  return wrong === undefined ? '' : `${wrong} is no duration`
}

/** A letter stands for one in a synopsis. */
function isDuration(word: string): boolean { return /^[A-Z]+$/.test(word) || parseDuration(word) !== null }

const FILES = [
  ...listPages(ROOT), 'create/template/README.md', 'scripts/systemd/cirque.service',
  ...['create', 'examples', 'src', 'supervisor', 'workers'].flatMap(folder => {
    return listTypeScript(path.join(ROOT, folder)).map(file => `${folder}/${file}`)
  }),
]

test('every cirque command that is written down anywhere is one that would be run', async () => {
  const said = FILES.flatMap(file => [...saidIn(file, fs.readFileSync(path.join(ROOT, file), 'utf8'))])
  const wrong: string[] = []
  for (const { where, words } of said) {
    const complaint = await complaintAbout(words)
    if (complaint !== '') wrong.push(`${where}: ${complaint}`)
  }
  assert.deepEqual(wrong, [])
  const operating = new Set([...saidIn('docs/operating.md', fs.readFileSync(path.join(ROOT, 'docs/operating.md'), 'utf8'))]
    .flatMap(({ words }) => [words[0], words.slice(0, 2).join(' ')]))
  for (const { words } of COMMANDS) assert.ok(operating.has(words.join(' ')) || words.length === 0, `docs/operating.md: ${words.join(' ')}`)
})

test('a command that is written down wrongly is found, whichever way it is written', async () => {
  const page = [
    'Use `cirque --state-dir /run/x status`, or `npx cirque staus`.', '```sh', 'bin/cirque prove nothing   # a remark', '```',
    '| `cirque reload [--soak 10]` |', '| `cirque stop\\|halt` |', '`cirque upgrade --progres releases/2 \\| tee log`',
    'Not ours: `systemctl reload cirque`, `npm run bench -- --only cirque --profile`, `cirque.yaml`; right: `cirque status -w 1s`.',
  ].join('\n')
  const complaints = await Promise.all([...saidIn('page.md', page)].map(({ words }) => complaintAbout(words)))
  assert.deepEqual(complaints.map(complaint => complaint.split('\n')[0]), [
    "error: command-argument value 'nothing' is invalid for argument 'action'. Allowed choices are reload, crash, upgrade, watch.",
    "error: unknown option '--state-dir'", "error: unknown command 'staus'", '10 is no duration', '', "error: unknown command 'halt'",
    "error: unknown option '--progres'", '',
  ])
})
