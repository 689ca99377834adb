/**
 * What a process of ours is told at its birth, in one environment variable that it reads and deletes before anything
 * else runs: an application never sees it and its children do not inherit it.
 */
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
}

export type Role = WorkerRole | DescribeRole

/** Reads the role and removes it. @returns null when the process is none of ours. */
export function takeRole(env: NodeJS.ProcessEnv): Role | null {
  const text = env[ROLE_VARIABLE]
  delete env[ROLE_VARIABLE]
  if (text === undefined) return null
  return JSON.parse(text) as Role
}
