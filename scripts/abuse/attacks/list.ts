/** Every attack, in the order in which they run. */
import type { Attack } from '../attack.ts'
import { abandonedClients, deadReaders, halfHeads, idleConnections, keptBodies, trickledHeads } from './connections.ts'
import { asyncCallbacks, floatingRejections, hooksThatHang, smuggledTargets, stuckWorker, stuckWorkers } from './hooks.ts'
import { ampersands, connectionNames, deepPipelines, h2cUpgrade, webSocketFin } from './requests.ts'
import { adminFlood, logFloods, stateFolderRemoved } from './surroundings.ts'

export const ATTACKS: readonly Attack[] = [
  floatingRejections, idleConnections, connectionNames, smuggledTargets, abandonedClients, hooksThatHang, halfHeads, h2cUpgrade,
  asyncCallbacks, stuckWorker, stuckWorkers, stateFolderRemoved, logFloods, ampersands, deepPipelines, keptBodies, deadReaders,
  webSocketFin, adminFlood, trickledHeads,
]
