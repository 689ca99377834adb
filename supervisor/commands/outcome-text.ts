/** How an upgrade, a reload or a roll-back ended, in one sentence. */
import type { OperationOutcome } from '../../src/ipc/messages.ts'
import { duration } from './duration-text.ts'

export function outcomeText({ id, result, reason, generation, to, supervisorReplaced, steps }: OperationOutcome): string {
  const took = duration(steps.reduce((sum, { ms }) => sum + ms, 0))
  switch (result) {
    case 'committed': return `${id}: done in ${took}, generation ${generation}, ${to}${supervisorReplaced ? ', with a new supervisor' : ''}`
    case 'refused': return `${id}: refused, nothing was changed: ${reason}`
    case 'rolled-back': return `${id}: rolled back, everything is as it was: ${reason}`
    case 'superseded': return `${id}: ${reason}`
    default: return result satisfies never
  }
}
