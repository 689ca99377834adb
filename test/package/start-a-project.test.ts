/**
 * docs/start.md, done word by word by somebody who has an older Node.js, npm and the packed package: from an empty folder to an
 * application that is developed (with a slip of the pen or two), tested, run, reloaded, upgraded, broken, rolled back and stopped.
 * Only addresses are not those of the page: the kernel chooses them. How long the steps took is reported.
 */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { linkTarget } from '../../scripts/page-links.ts'
import { guideSteps, printedLine, type Command, type Edit, type Output } from '../support/guide-steps.ts'
import { offlineMachine } from '../support/offline-npm.ts'
import { packedPackage } from '../support/packed-package.ts'
import { requireProgram } from '../support/programs.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

const PAGE = path.join(import.meta.dirname, '../../docs/start.md')
const PROJECT = 'my-edge'
const COMMAND_MAX_MS = 60_000
/** What says that a command that stays is there: the origin, the first screen of `cirque dev`, the log of `cirque run`. */
const READY = /the origin answers on (\S+)|^ +open +http:\/\/(\S+)\n +health +http:\/\/([^/]+)\/readyz$|^(.*"msg":"running".*)$/m

/** A terminal of its own, in which a command stays. */
interface Terminal {
  said: string
  /** As far as the page has been followed. */
  read: number
}

/** The reader: terminals in which the commands of a page are run, one after another. */
class Reader {
  readonly #t: TestContext
  readonly #env: Record<string, string | undefined>
  /** Of the terminal. */
  folder: string
  #printed = ''
  /** By what stays in them. */
  readonly #terminals = new Map<string, Terminal>()
  /** Addresses of the page, and what the kernel has chosen instead. */
  readonly #addresses = new Map<string, string>()

  constructor(t: TestContext, env: NodeJS.ProcessEnv, folder: string) {
    this.#t = t
    this.folder = folder
    this.#env = {
      ...env, LISTEN: '127.0.0.1:0', ORIGIN: '127.0.0.1:0', CIRQUE_SUPERVISOR_ADMIN_ADDRESS: '127.0.0.1:0',
      CIRQUE_SUPERVISOR_WORKERS: '2', CIRQUE_SUPERVISOR_STATE_DIR: path.join(temporaryFolder(t), 'state'),
    }
  }

  async run(command: Command): Promise<void> {
    const text = this.#onThisMachine(command.text)
    if (text.startsWith('cd ')) {
      this.folder = path.resolve(this.folder, text.slice(3))
      return
    }
    if (command.stays) {
      await this.#stay(text)
      return
    }
    const child = spawn('sh', ['-c', text], { cwd: this.folder, env: this.#env, stdio: ['ignore', 'pipe', 'pipe'] })
    this.#printed = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (piece: string) => { this.#printed += piece })
    const [code] = await within(`\`${text}\` to end`, once(child, 'close'), COMMAND_MAX_MS)
    assert.equal(code !== 0, command.fails, `${text}: exit code ${code}\n${this.#printed}`)
    if (command.prints !== null) assert.equal(this.#printed.split('\n').findLast(line => line !== ''), command.prints, text)
  }

  #onThisMachine(text: string): string {
    return [...this.#addresses].reduce((with_, [page, real]) => with_.replaceAll(page, real), text)
  }

  /** In a terminal of its own; resolves when it has said that it is there. */
  async #stay(text: string): Promise<void> {
    const child = spawn('sh', ['-c', text], { cwd: this.folder, env: this.#env, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    // Whatever it has started is in its group.
    this.#t.after(() => { try { process.kill(-child.pid!, 'SIGKILL') } catch { /* It has ended. */ } })
    const terminal: Terminal = { said: '', read: 0 }
    this.#terminals.set(text, terminal)
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (piece: string) => { terminal.said += piece })
    const [, origin, screen, admin, line] = await waitFor(`\`${text}\` to be ready`, () => {
      assert.equal(child.exitCode, null, `${text}: ${terminal.said}`)
      return READY.exec(terminal.said)
    }, { deadlineMs: COMMAND_MAX_MS, seen: () => terminal.said })
    if (origin !== undefined) {
      this.#env['ORIGIN'] = origin
      this.#addresses.set('127.0.0.1:3000', origin)
    } else if (line === undefined) this.#addresses.set('127.0.0.1:8080', screen!).set('127.0.0.1:9901', admin!)
    else {
      const running = JSON.parse(line) as { listeners: string[]; admin: string }
      this.#addresses.set('127.0.0.1:8080', running.listeners[0]!).set('127.0.0.1:9901', running.admin)
    }
  }

  edit({ file, from, to }: Edit): void {
    const full = path.join(this.folder, file)
    const text = readFileSync(full, 'utf8')
    assert.equal(text.split(from).length, 2, `${file} has once: ${from}`)
    writeFileSync(full, text.replace(from, () => to))
  }

  async sees({ of, lines }: Output): Promise<void> {
    const terminal = this.#terminals.get(of)
    if (of === '') for (const line of lines) assert.match(this.#printed, printedLine(line))
    else assert.ok(terminal, `no \`${of}\` stays`)
    if (terminal === undefined) return
    for (const line of lines) {
      const pattern = printedLine(this.#onThisMachine(line))
      const found = await waitFor(`\`${of}\` to print ${line}`, () => pattern.exec(terminal.said.slice(terminal.read)), {
        deadlineMs: COMMAND_MAX_MS, seen: () => terminal.said.slice(terminal.read),
      })
      terminal.read += found.index + found[0].length
    }
  }
}

test('start a project: every step of the page works as it stands there, with the packed package and an older Node.js', async t => {
  if (requireProgram(t, 'curl') === null) return
  const cirque = packedPackage(t)
  const env = offlineMachine(t, cirque)
  if (env === null) return
  const folder = temporaryFolder(t)
  const reader = new Reader(t, env, folder)
  const steps = guideSteps(readFileSync(PAGE, 'utf8'))
  const tookMs: (readonly [ms: number, step: string])[] = []
  for (const step of steps) {
    const sinceMs = performance.now()
    if (step.kind === 'command') await reader.run(step)
    else if (step.kind === 'edit') reader.edit(step)
    else await reader.sees(step)
    tookMs.push([performance.now() - sinceMs, step.kind === 'command' ? step.text : step.kind])
  }
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`
  const longest = tookMs.toSorted(([one], [other]) => other - one).slice(0, 5).map(([ms, step]) => `${seconds(ms)} ${step}`)
  t.diagnostic(`${steps.length} steps in ${seconds(tookMs.reduce((sum, [ms]) => sum + ms, 0))}; longest: ${longest.join(', ')}`)
  // What was needed is on the page.
  const commands = steps.flatMap(step => step.kind === 'command' ? [step.text] : []).join('\n')
  for (const word of ['init', 'install', 'run dev', 'npm test', 'npm start', 'reload', 'upgrade', 'rollback', 'stop']) {
    assert.ok(commands.includes(word), word)
  }
  const readme = readFileSync(path.join(folder, PROJECT, 'README.md'), 'utf8')
  for (const [, link = ''] of readme.matchAll(/\]\(([^()\s]+)\)/g)) {
    const target = linkTarget('README.md', link)
    if (target !== null) assert.ok(existsSync(path.join(folder, PROJECT, target)), `README.md of the project links to ${link}`)
  }
})
