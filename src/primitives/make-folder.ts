/** Makes folders. */
import fs from 'node:fs'
import path from 'node:path'

/**
 * With the folders above it. Not with `recursive` of Node.js: where the system says ENOENT in a folder that is there, as it does
 * in /proc, that tries for ever, and of a read-only file system it says ENOENT. What is there already is no error, folder or
 * not. @throws the error of the system
 */
export function makeFolder(folder: string, mode = 0o777): void {
  try {
    fs.mkdirSync(folder, { mode })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST' || fs.existsSync(folder)) return
    const parent = path.dirname(folder)
    if (code !== 'ENOENT' || fs.existsSync(parent)) throw error
    makeFolder(parent, mode)
    fs.mkdirSync(folder, { mode })
  }
}
