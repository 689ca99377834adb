/**
 * The id of this instance: made once and kept in the state folder, so that it is the same for every worker, whichever
 * supervisor forked it, and another one for every other folder. By it services know requests that they sent themselves
 * (src/proxy/loop-mark.ts); it is told to workers and to nobody else.
 */
import { randomBytes } from 'node:crypto'
import path from 'node:path'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { JournalDisk } from './journal.ts'

const FILE = 'instance-id'

export class Instance {
  readonly #file: string
  readonly #disk: JournalDisk
  readonly #log: ProcessLog
  #id = ''

  constructor(folder: string, disk: JournalDisk, log: ProcessLog) {
    this.#file = path.join(folder, FILE)
    this.#disk = disk
    this.#log = log
  }

  /** Read, or made, when it is asked for first: then the folder is ours. */
  get id(): string {
    if (this.#id === '') this.#id = this.#kept() ?? this.#make()
    return this.#id
  }

  /** The folder goes. */
  forget(): void { this.#disk.remove(this.#file) }

  #kept(): string | null {
    try {
      const text = this.#disk.read(this.#file).trim()
      return /^[\w-]{16,64}$/.test(text) ? text : null
    } catch {
      return null // Not there yet.
    }
  }

  #make(): string {
    const id = randomBytes(18).toString('base64url')
    try {
      this.#disk.write(this.#file, `${id}\n`)
    } catch (error) {
      this.#log.warn('the id of this instance cannot be kept: loops through its next supervisor are seen a round later', { error })
    }
    return id
  }
}
