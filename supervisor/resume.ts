/**
 * Where the trampoline (boot.ts) enters this installation's supervisor: the rest of a life that another image of this
 * process began. Exported names and what they take are a contract between releases.
 */
import type { BootControl, Handover } from './reexec.ts'
import { resumeSupervisor } from './run.ts'

export async function resume(handover: Handover, boot: BootControl): Promise<void> { await resumeSupervisor(handover, boot) }
