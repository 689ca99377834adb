/**
 * Where a supervisor stands in its life. States only go forward; a stop leads from any of them to Stopping.
 *
 *   Claiming --control socket is ours--> Describing --> Binding --> Starting --all slots accept--> Running --> Stopping --> Ended
 */
export const SupervisorState = { Claiming: 0, Describing: 1, Binding: 2, Starting: 3, Running: 4, Stopping: 5, Ended: 6 } as const
export type SupervisorState = (typeof SupervisorState)[keyof typeof SupervisorState]

export const SUPERVISOR_STATE_NAMES: Readonly<Record<SupervisorState, string>> = {
  [SupervisorState.Claiming]: 'claiming', [SupervisorState.Describing]: 'describing', [SupervisorState.Binding]: 'binding',
  [SupervisorState.Starting]: 'starting', [SupervisorState.Running]: 'running', [SupervisorState.Stopping]: 'stopping',
  [SupervisorState.Ended]: 'ended',
}
