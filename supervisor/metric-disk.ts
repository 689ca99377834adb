/** The real MetricDisk. Decides nothing. */
import fs from 'node:fs'
import type { MetricDisk, MetricFile } from './metric-ledger.ts'

export const SYSTEM_METRIC_DISK: MetricDisk = {
  // Workers of another user have to get through it, to the file that is theirs.
  makeFolder(folder) {
    // Not what it lies in: that belongs to those who check its owner and mode.
    try { fs.mkdirSync(folder, { mode: 0o711 }) } catch (error) { if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error }
  },
  list: folder => fs.readdirSync(folder),
  readText: file => fs.readFileSync(file, 'utf8'),
  replace(file, text) {
    const next = `${file}.next`
    fs.writeFileSync(next, text, { mode: 0o600 })
    fs.renameSync(next, file)
  },
  remove: file => fs.rmSync(file, { force: true }),
  removeFolder: folder => fs.rmdirSync(folder),
  create(file, bytes, { uid, gid }) {
    // What has the name is mapped by a process that nobody knows any more: it is let be, under no name.
    fs.rmSync(file, { force: true })
    const fd = fs.openSync(file, 'wx+', 0o600)
    try {
      // Written, not only made that long: what is not on the disk yet could find it full when it is touched.
      fs.writeSync(fd, new Uint8Array(bytes), 0, bytes, 0)
      if (uid !== null || gid !== null) fs.fchownSync(fd, uid ?? process.getuid!(), gid ?? process.getgid!())
    } catch (error) {
      fs.closeSync(fd)
      fs.rmSync(file, { force: true })
      throw error
    }
    return fileOf(fd)
  },
  open: file => fileOf(fs.openSync(file, 'r')),
}

function fileOf(fd: number): MetricFile {
  return {
    read(into, from) {
      const read = fs.readSync(fd, into, 0, into.length, from)
      if (read !== into.length) throw new Error(`it ends after ${from + read} bytes`)
    },
    close: () => fs.closeSync(fd),
  }
}
