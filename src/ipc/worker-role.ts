/**
 * What a process of ours is told at its birth, in one environment variable that it reads and deletes before anything
 * else runs: an application never sees it and its children do not inherit it. Its first environment stays readable for others
 * of its user (/proc/<pid>/environ), so the token is not in it: that comes through a pipe that only the process itself can read.
 */
import fs from 'node:fs'
import type { WorkerSettings } from '../config/worker-settings.ts'
import type { DescriptorLayout } from './descriptor-layout.ts'
import type { WorkerId } from './messages.ts'

export const ROLE_VARIABLE = 'CIRQUE_ROLE'

export interface WorkerRole {
  readonly role: 'worker'
  readonly worker: WorkerId
  readonly slot: number
  /** Absolute path of the application's module. */
  readonly application: string
  /** Socket to register on, and the secret that proves who we are. */
  readonly controlPath: string
  readonly token: string
  readonly layout: DescriptorLayout
  readonly maxControlMessageBytes: number
}

export interface DescribeRole {
  readonly role: 'describe'
  readonly application: string
  /** Also say which files the application was loaded from. Left out: no. */
  readonly listFiles?: boolean
  /** Also refuse what a start with these overrides of listeners would: certificates that would not do. Left out: no. */
  readonly listeners?: WorkerSettings['listeners']
}

export type Role = WorkerRole | DescribeRole

/** A worker's role as it stands in the variable: instead of the token the descriptor that brings it. */
export type RoleInEnvironment = Omit<WorkerRole, 'token'> & { readonly tokenFd: number }

/**
 * Reads the role and removes it. @param readToken reads a descriptor to its end and closes it
 * @returns null when the process is none of ours.
 */
export function takeRole(env: NodeJS.ProcessEnv, readToken = readToEnd): Role | null {
  const text = env[ROLE_VARIABLE]
  delete env[ROLE_VARIABLE]
  if (text === undefined) return null
  const role = JSON.parse(text) as Role | RoleInEnvironment
  return role.role === 'worker' && 'tokenFd' in role ? { ...role, token: readToken(role.tokenFd) } : role
}

function readToEnd(fd: number): string {
  try { return fs.readFileSync(fd, 'utf8') } finally { fs.closeSync(fd) }
}
