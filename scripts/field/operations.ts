/** What an operator asks of a running supervisor, and how it ended. */
import type { FromOperator, OperationStarted } from '../../src/ipc/messages.ts'
import { askSupervisor, awaitOutcome } from '../../supervisor/control-client.ts'

export type BeginOperation = Extract<FromOperator, { tag: 'upgrade' | 'reload' | 'rollback' }>

/** Resolves when it is over. @returns why it did not commit, or ''. */
export async function operate(stateDir: string, order: BeginOperation): Promise<string> {
  try {
    const { id } = await askSupervisor(stateDir, order) as OperationStarted
    const { result, reason } = await awaitOutcome(stateDir, id)
    return result === 'committed' ? '' : `${result}: ${reason}`
  } catch (error) {
    return (error as Error).message
  }
}
