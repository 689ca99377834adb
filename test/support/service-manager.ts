/**
 * What systemd is to a supervisor, for one test: a socket that it reports to, a store for its listening sockets, and
 * starts that bring them back. Knows nothing of units; whoever tests decides when something is started or killed.
 */
import fs from 'node:fs'
import path from 'node:path'
import type { TestContext } from 'node:test'
import { loadSystemCalls, type DatagramInbox, type SystemCalls } from '../../src/ipc/system-calls.ts'
import { reportedFields } from './reported-fields.ts'
import { SupervisedApp, type SupervisedOptions } from './supervised-app.ts'
import { temporaryFolder } from './temporary-folder.ts'
import { waitFor } from './wait-for.ts'

/** Its queue is short, and who reports waits for room. */
const POLL_MS = 2

interface Stored { readonly fd: number; readonly name: string; readonly inode: number }

export class TestServiceManager {
  /** Reports, oldest first: `READY=1`, `STOPPING=1`. */
  readonly reports: string[] = []
  readonly #calls: SystemCalls
  readonly #path: string
  readonly #inbox: DatagramInbox
  #stored: Stored[] = []

  private constructor(t: TestContext, calls: SystemCalls) {
    this.#calls = calls
    this.#path = path.join(temporaryFolder(t), 'notify')
    this.#inbox = calls.openInbox(this.#path)
    const poll = setInterval(() => this.#receive(), POLL_MS)
    t.after(() => {
      clearInterval(poll)
      this.#inbox.close()
      this.letGo()
    })
  }

  static async start(t: TestContext): Promise<TestServiceManager> {
    const loaded = await loadSystemCalls()
    if (!loaded.available) throw new Error(loaded.reason)
    return new TestServiceManager(t, loaded.calls)
  }

  /** Names of the sockets that are kept. */
  get stored(): readonly string[] { return this.#stored.map(({ name }) => name) }

  /** Starts a supervisor with everything that is kept. */
  startApp(t: TestContext, options: SupervisedOptions = {}): Promise<SupervisedApp> {
    const env = { ...options.env, NOTIFY_SOCKET: this.#path, LISTEN_FDNAMES: this.stored.join(':') }
    return SupervisedApp.start(t, { ...options, env, listen: this.#stored.map(({ fd }) => fd) })
  }

  /** Resolves when it has been told so. */
  async told(report: string): Promise<void> {
    const wasTold = (): boolean => this.reports.includes(report)
    await waitFor(`the report ${report}`, wasTold, { deadlineMs: 20_000, seen: () => this.reports })
  }

  /** Nothing is kept any more, as after a stop. */
  letGo(): void {
    for (const { fd } of this.#stored.splice(0)) this.#calls.close(fd)
  }

  #receive(): void {
    for (let received = this.#inbox.receive(); received !== null; received = this.#inbox.receive()) {
      const fields = reportedFields(received.payload)
      const name = fields['FDNAME'] ?? ''
      for (const fd of received.descriptors) this.#store(fd, name)
      if (fields['FDSTOREREMOVE'] === '1') {
        for (const { fd } of this.#stored.filter(one => one.name === name)) this.#calls.close(fd)
        this.#stored = this.#stored.filter(one => one.name !== name)
      }
      for (const tag of ['READY', 'RELOADING', 'STOPPING']) if (fields[tag] === '1') this.reports.push(`${tag}=1`)
    }
  }

  /** A socket that is there already is not kept twice. */
  #store(fd: number, name: string): void {
    const inode = fs.fstatSync(fd).ino
    if (this.#stored.some(one => one.inode === inode)) this.#calls.close(fd)
    else this.#stored.push({ fd, name, inode })
  }
}
