/** Users and groups by name or number, from /etc/passwd and /etc/group: `fork` takes numbers, and Node.js has no look-up. */
import fs from 'node:fs'
import { OptionError } from '../src/primitives/option-table.ts'

export interface Identity {
  /** null: unchanged. */
  readonly uid: number | null
  readonly gid: number | null
}

/** @throws OptionError for a name that does not exist. */
export function resolveIdentity(user: string, group: string, read = readText): Identity {
  let uid: number | null = null
  let gid: number | null = null
  if (user !== '') {
    // name:password:uid:gid:...
    const fields = rows(read, '/etc/passwd').find(row => row[0] === user || row[2] === user)
    if (fields === undefined && !/^\d+$/.test(user)) {
      throw OptionError.of('supervisor.user', user, 'use the name or number of a user of this machine')
    }
    uid = Number(fields?.[2] ?? user)
    gid = fields === undefined ? null : Number(fields[3])
  }
  if (group !== '') {
    // name:password:gid:...
    const fields = rows(read, '/etc/group').find(row => row[0] === group || row[2] === group)
    if (fields === undefined && !/^\d+$/.test(group)) {
      throw OptionError.of('supervisor.group', group, 'use the name or number of a group of this machine')
    }
    gid = Number(fields?.[2] ?? group)
  }
  return { uid, gid }
}

function readText(file: string): string { return fs.readFileSync(file, 'utf8') }

function rows(read: (file: string) => string, file: string): string[][] {
  try { return read(file).split('\n').map(line => line.split(':')) } catch { return [] }
}
