/** Completion of `cirque ...`, by the shells themselves. */
import '../../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { createCommandLine } from '../../../supervisor/cli.ts'
import { completedCommands } from '../../../supervisor/commands/completed-commands.ts'
import { completionScript, type Shell } from '../../../supervisor/commands/completion-scripts.ts'
import { requireProgram } from '../../support/programs.ts'
import { SupervisedApp } from '../../support/supervised-app.ts'
import { temporaryFolder, writeTree } from '../../support/temporary-folder.ts'
import { Terminal } from '../../support/terminal.ts'

const COMMANDS = completedCommands(createCommandLine())
const CLI = path.join(import.meta.dirname, '../../../supervisor/cli.ts')

/** A folder with two releases and a file, the script, and `cirque` in bin/. */
function project(t: TestContext, shell: Shell): string {
  const folder = temporaryFolder(t)
  writeTree(folder, {
    'releases/1/app.ts': '', 'releases/2/app.ts': '', 'readme.txt': '', 'a folder/file': '',
    'bin/cirque': `#!/bin/sh\nexec ${process.execPath} --disable-warning=ExperimentalWarning ${CLI} "$@"\n`,
    'script': completionScript(shell, COMMANDS),
  })
  fs.chmodSync(path.join(folder, 'bin/cirque'), 0o755)
  return folder
}

/** What a shell offers for each line, sorted. The last word is being typed. */
type Ask = (lines: readonly (readonly string[])[], env?: Readonly<Record<string, string>>) => string[][]

function asker(program: string, args: (lines: readonly (readonly string[])[]) => string[], folder: string): Ask {
  return (lines, env = {}) => {
    const { stdout, stderr, status } = spawnSync(program, args(lines), {
      encoding: 'utf8', cwd: folder,
      env: { ...process.env, HOME: folder, PATH: `${path.join(folder, 'bin')}:${process.env['PATH']}`, ...env },
    })
    assert.deepEqual([status, stderr], [0, ''])
    const offers = stdout.split('=\n').slice(0, -1)
    return offers.map(offer => offer.split('\n').filter(line => line !== '').map(line => line.split('\t')[0]!).toSorted())
  }
}

function bashIn(t: TestContext): Ask | null {
  const bash = requireProgram(t, 'bash')
  if (bash === null) return null
  const folder = project(t, 'bash')
  return asker(bash, lines => {
    const asks = lines.map(words => `COMP_WORDS=(${['cirque', ...words].map(quote).join(' ')}) COMP_CWORD=${words.length}
_cirque; printf '%s\\n' "\${COMPREPLY[@]}"; echo =`)
    return ['--norc', '-c', `set -u; source ./script\n${asks.join('\n')}`]
  }, folder)
}

function fishIn(t: TestContext): Ask | null {
  const fish = requireProgram(t, 'fish')
  if (fish === null) return null
  const folder = project(t, 'fish')
  return asker(fish, lines => {
    const asks = lines.map(words => `complete -C ${quote(['cirque', ...words].join(' '))}; echo =`)
    return ['--no-config', '-c', `source ./script\n${asks.join('\n')}`]
  }, folder)
}

function quote(word: string): string { return `'${word}'` }

/** Behind the words of a command: its long options, and the commands below it. */
const EVERYTHING = COMMANDS.flatMap(({ words, options, below, arguments: [first] }) => [
  { line: [...words, '--'], offer: options.flatMap(({ flags }) => flags).filter(flag => flag.startsWith('--')).toSorted() },
  ...below.length === 0 ? [] : [{ line: [...words, ''], offer: below.toSorted() }],
  ...first === undefined || typeof first.offer === 'string' ? [] : [{ line: [...words, ''], offer: first.offer.toSorted() }],
])

test('completions: what the help shows is what can be completed', () => {
  assert.deepEqual(COMMANDS.map(({ words }) => words.join(' ')), [
    '', 'init', 'run', 'dev', 'status', 'top', 'tail', 'trace', 'explain', 'stop', 'upgrade', 'reload', 'rollback', 'validate',
    'workers', 'workers ls', 'workers restart', 'certs', 'certs reload', 'log-level', 'prove', 'completions',
  ])
  const upgrade = COMMANDS.find(({ words }) => words[0] === 'upgrade')!
  assert.deepEqual(upgrade.arguments, [{ name: 'folder', variadic: false, offer: 'folder' }])
  const stateDir = upgrade.options.find(({ flags }) => flags.includes('--state-dir'))
  assert.deepEqual(stateDir?.value, { name: 'folder', optional: false, offer: 'folder' })
})

for (const [shell, shellIn] of [['bash', bashIn], ['fish', fishIn]] as const) {
  test(`completions: ${shell} knows every command and option`, t => {
    const ask = shellIn(t)
    if (ask === null) return
    const offers = ask(EVERYTHING.map(({ line }) => line))
    for (const [index, { line, offer }] of EVERYTHING.entries()) assert.deepEqual(offers[index], offer, line.join(' '))
  })

  test(`completions: ${shell} completes releases, files, and ids of the workers that run`, async t => {
    const app = await SupervisedApp.start(t)
    const ask = shellIn(t)
    if (ask === null) return
    const env = { CIRQUE_SUPERVISOR_STATE_DIR: app.stateDir }
    const [folders, files, passed, ids, soak, inner] = ask([
      ['upgrade', 're'], ['run', 're'], ['run', 'app.ts', '--', 'rea'], ['workers', 'restart', '1.1'], ['upgrade', '--soak', ''],
      ['upgrade', 'releases/'],
    ], env)
    const slash = shell === 'fish' ? '/' : ''
    assert.deepEqual(folders, [`releases${slash}`], 'the readme is no release')
    assert.deepEqual(files, ['readme.txt', `releases${slash}`])
    assert.deepEqual(passed, ['readme.txt'])
    assert.deepEqual(ids, ['1.1.0'])
    assert.deepEqual(soak, [], 'a duration is nothing to be guessed')
    assert.deepEqual(inner, [`releases/1${slash}`, `releases/2${slash}`])
  })
}

test('completions: bash completes the value behind --option=, which it takes apart', t => {
  const ask = bashIn(t)
  if (ask === null) return
  const offers = ask([['status', '--state-dir', '=', ''], ['status', '--state-dir', '=', 'rel']])
  assert.deepEqual(offers, [['a folder', 'bin', 'releases'], ['releases']])
})

test('completions: zsh completes as one types', async t => {
  const zsh = requireProgram(t, 'zsh')
  if (zsh === null) return
  const folder = project(t, 'zsh')
  const app = await SupervisedApp.start(t)
  const env = {
    HOME: folder, ZDOTDIR: folder, PATH: `${path.join(folder, 'bin')}:${process.env['PATH']}`, CIRQUE_SUPERVISOR_STATE_DIR: app.stateDir,
  }
  const terminal = Terminal.start(t, [zsh, '-f', '-i'], { cwd: folder, env })
  if (terminal === null) return
  // ^T shows the line as it stands, and empties it.
  const setUp = [
    'bindkey -e', 'autoload -Uz compinit', 'compinit -u -D', 'source ./script',
    `show() { print -r -- "[$BUFFER]"; BUFFER='' }`, 'zle -N show', `bindkey '^T' show`, 'echo re""ady',
  ]
  terminal.type(`${setUp.join('; ')}\n`)
  await terminal.shows(/^ready/m)
  const completed = async (typed: string): Promise<string> => {
    const from = terminal.shown.length
    terminal.type(`${typed}\t\u0014`)
    return (await terminal.shows(/\[(cirque[^\]]*)\]\r\n/, from))[1]!
  }
  assert.equal(await completed('cirque upg'), 'cirque upgrade ')
  assert.equal(await completed('cirque upgrade --sup'), 'cirque upgrade --supervisor ')
  assert.equal(await completed('cirque upgrade rel'), 'cirque upgrade releases/')
  assert.equal(await completed('cirque prove up'), 'cirque prove upgrade ')
  assert.equal(await completed('cirque workers restart 1.1'), 'cirque workers restart 1.1.0 ')
  terminal.type('exit\n')
  assert.equal(await terminal.ends(), 0)
})
