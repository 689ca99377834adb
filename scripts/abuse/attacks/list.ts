/** Every attack, in the order in which they run. */
import type { Attack } from '../attack.ts'
import { abandonedClients } from './abandoned-clients.ts'
import { adminFlood } from './admin-flood.ts'
import { ampersands } from './ampersands.ts'
import { asyncCallbacks } from './async-callbacks.ts'
import { connectionNames } from './connection-names.ts'
import { deadReaders } from './dead-readers.ts'
import { deepPipelines } from './deep-pipelines.ts'
import { floatingRejections } from './floating-rejections.ts'
import { h2cUpgrade } from './h2c-upgrade.ts'
import { halfHeads } from './half-heads.ts'
import { hooksThatHang } from './hooks-that-hang.ts'
import { http2BehindGoaway } from './http2-behind-goaway.ts'
import { http2Floods } from './http2-floods.ts'
import { http2Ordinary } from './http2-ordinary.ts'
import { http2ShutWindows } from './http2-shut-windows.ts'
import { idleConnections } from './idle-connections.ts'
import { keptBodies } from './kept-bodies.ts'
import { logFloods } from './log-floods.ts'
import { smuggledTargets } from './smuggled-targets.ts'
import { stateFolderRemoved } from './state-folder-removed.ts'
import { stuckWorker, stuckWorkers } from './stuck-workers.ts'
import { trickledHeads } from './trickled-heads.ts'
import { webSocketFin } from './websocket-fin.ts'

export const ATTACKS: readonly Attack[] = [
  floatingRejections, idleConnections, connectionNames, smuggledTargets, abandonedClients, hooksThatHang, halfHeads, h2cUpgrade,
  asyncCallbacks, stuckWorker, stuckWorkers, stateFolderRemoved, logFloods, ampersands, deepPipelines, keptBodies, deadReaders,
  webSocketFin, adminFlood, trickledHeads, ...http2Floods, http2BehindGoaway, ...http2ShutWindows, http2Ordinary,
]
