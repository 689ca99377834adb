/**
 * docs/start.md, done word by word by somebody who has an older Node.js, npm and the packed package: from an empty folder to
 * an application that is edited, tested, run, reloaded, upgraded, rolled back and stopped.
 * Only addresses are not those of the page: the kernel chooses them.
 */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { linkTarget } from '../../scripts/page-links.ts'
import { guideSteps, type Command, type Edit } from '../support/guide-steps.ts'
import { offlineMachine } from '../support/offline-npm.ts'
import { packedPackage } from '../support/packed-package.ts'
import { requireProgram } from '../support/programs.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

const PAGE = path.join(import.meta.dirname, '../../docs/start.md')
const PROJECT = 'my-edge'
const COMMAND_MAX_MS = 60_000

/** The reader: terminals in which the commands of a page are run, one after another. */
class Reader {
  readonly #t: TestContext
  readonly #env: Record<string, string | undefined>
  /** Of the terminal. */
  folder: string
  #printed = ''
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
    const text = [...this.#addresses].reduce((with_, [page, real]) => with_.replaceAll(page, real), command.text)
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

  /** In a terminal of its own; resolves when it has said that it is there. */
  async #stay(text: string): Promise<void> {
    const child = spawn('sh', ['-c', text], { cwd: this.folder, env: this.#env, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    // Whatever it has started is in its group.
    this.#t.after(() => { try { process.kill(-child.pid!, 'SIGKILL') } catch { /* It has ended. */ } })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (piece: string) => { said += piece })
    const ready = await waitFor(`\`${text}\` to be ready`, () => {
      assert.equal(child.exitCode, null, `${text}: ${said}`)
      return /the origin answers on (\S+)|^.*"msg":"running".*$/m.exec(said)
    }, { deadlineMs: COMMAND_MAX_MS, seen: () => said })
    if (ready[1] !== undefined) {
      this.#env['ORIGIN'] = ready[1]
      return
    }
    const { listeners, admin } = JSON.parse(ready[0]) as { listeners: string[]; admin: string }
    this.#addresses.set('127.0.0.1:8080', listeners[0] ?? '').set('127.0.0.1:9901', admin)
  }

  edit({ file, from, to }: Edit): void {
    const full = path.join(this.folder, file)
    const text = readFileSync(full, 'utf8')
    assert.equal(text.split(from).length, 2, `${file} has once: ${from}`)
    writeFileSync(full, text.replace(from, () => to))
  }

  hasSeen(lines: readonly string[]): void {
    for (const line of lines) assert.ok(this.#printed.includes(line), `${line}\nis not in:\n${this.#printed}`)
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
  const started = performance.now()
  for (const step of steps) {
    if (step.kind === 'command') await reader.run(step)
    else if (step.kind === 'edit') reader.edit(step)
    else reader.hasSeen(step.lines)
  }
  t.diagnostic(`${steps.length} steps in ${((performance.now() - started) / 1000).toFixed(1)} s`)
  // What was needed is on the page.
  const commands = steps.flatMap(step => step.kind === 'command' ? [step.text] : []).join('\n')
  for (const word of ['init', 'install', 'types', 'npm test', 'npm start', 'reload', 'upgrade', 'rollback', 'stop']) {
    assert.ok(commands.includes(word), word)
  }
  const readme = readFileSync(path.join(folder, PROJECT, 'README.md'), 'utf8')
  for (const [, link = ''] of readme.matchAll(/\]\(([^()\s]+)\)/g)) {
    const target = linkTarget('README.md', link)
    if (target !== null) assert.ok(existsSync(path.join(folder, PROJECT, target)), `README.md of the project links to ${link}`)
  }
})
