/**
 * Imported by a test file that starts processes: when its tests are over, none of them and none of their children may be
 * left. They are known by a variable that every one of them inherits.
 */
import fs from 'node:fs'
import { after } from 'node:test'
import { waitFor } from './wait-for.ts'

const VARIABLE = 'TEST_FILE_PID'
const MARK = `${VARIABLE}=${process.pid}\0`
process.env[VARIABLE] = String(process.pid)

after(async () => {
  if (process.platform !== 'linux') return
  try {
    // What was killed a moment ago may take another to be gone.
    const commands = (): string[] => leftOver().map(pid => `${pid} ${read(pid, 'cmdline').replaceAll('\0', ' ')}`)
    await waitFor('every process of this file to be gone', () => leftOver().length === 0, { seen: commands })
  } finally {
    for (const pid of leftOver()) try { process.kill(pid, 'SIGKILL') } catch { /* Gone after all. */ }
  }
})

function leftOver(): number[] {
  return fs.readdirSync('/proc').filter(name => /^\d+$/.test(name)).map(Number)
    .filter(pid => pid !== process.pid && read(pid, 'environ').includes(MARK) && !/^\d+ \(.*\) Z/.test(read(pid, 'stat')))
}

function read(pid: number, name: string): string {
  try { return fs.readFileSync(`/proc/${pid}/${name}`, 'utf8') } catch { return '' }
}
