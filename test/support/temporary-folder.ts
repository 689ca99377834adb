/** A folder that exists for one test. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import type { TestContext } from 'node:test'

/** Created now, removed with everything in it after the test. The path is short, so that Unix sockets fit. */
export function temporaryFolder(t: TestContext): string {
  const folder = realpathSync(mkdtempSync(path.join(os.tmpdir(), 'cirque-')))
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }))
  return folder
}

/** Writes text files into `folder`, creating the folders on the way. Keys are relative paths. */
export function writeTree(folder: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    const full = path.join(folder, name)
    mkdirSync(path.dirname(full), { recursive: true })
    writeFileSync(full, text)
  }
}
