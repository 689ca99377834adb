/** What happens among many connections: how long new ones wait beside busy ones, and whether busy ones share alike. */
import path from 'node:path'
import { runToEnd } from '../managed-process.ts'
import { startContender } from '../measure.ts'
import { NGINX_LOG } from '../measurement.ts'
import type { CrowdResult } from './crowd.ts'
import type { Trial, TrialSetting } from './trial.ts'
import type { Contender } from '../contenders.ts'

const LOOKED_AT = 'cirque-default'
const CONTENDERS = [LOOKED_AT, NGINX_LOG, 'haproxy-default']
const BURST_BUSY = 500
const BURST_NEW = 300
const CROWD = 1000
/** Until everybody has been accepted and found their pace. */
const SECONDS_MIN = 3

async function crowd(contender: Contender, setting: TrialSetting, busy: number, burst: number): Promise<CrowdResult> {
  const { origin, cores } = setting
  const seconds = Math.max(SECONDS_MIN, setting.seconds)
  const running = await startContender(contender, origin, cores)
  try {
    const args = [path.join(import.meta.dirname, 'crowd.ts'), String(running.port), '/80', ...[busy, burst, seconds].map(String)]
    return JSON.parse(await runToEnd('crowd', { command: process.execPath, args }, cores.load)) as CrowdResult
  } finally {
    await running.stop()
  }
}

const none = { limit: 0, of: 'value', side: 'most', contender: LOOKED_AT } as const

export const burst: Trial = {
  name: 'burst',
  title: `a burst of ${BURST_NEW} new connections beside ${BURST_BUSY} busy keep-alive ones: from dialling to the answer`,
  contenders: CONTENDERS,
  base: NGINX_LOG,
  figures: [
    { name: 'p90', unit: 'ms', bounds: [{ limit: 1.25, of: 'x base', side: 'most', contender: LOOKED_AT }] },
    { name: 'p50', unit: 'ms', bounds: [] },
    { name: 'slowest', unit: 'ms', bounds: [] },
    { name: 'unserved', unit: '', bounds: [none] },
  ],
  async measure(contender, setting) {
    const result = await crowd(contender, setting, BURST_BUSY, BURST_NEW)
    return { p90: result.burstP90Ms, p50: result.burstP50Ms, slowest: result.burstMaxMs, unserved: result.burstUnserved }
  },
}

export const fairness: Trial = {
  name: 'fairness',
  title: `${CROWD} keep-alive connections opened at once and always busy: answers of the slowest in percent of the one in the middle`,
  contenders: CONTENDERS,
  base: NGINX_LOG,
  figures: [
    { name: 'slowest / median', unit: '%', bounds: [{ limit: 50, of: 'value', side: 'least', contender: LOOKED_AT }] },
    { name: 'last first answer', unit: 'ms', bounds: [{ limit: 1.25, of: 'x base', side: 'most', contender: LOOKED_AT }] },
    { name: 'unserved', unit: '', bounds: [none] },
    { name: 'broken', unit: '', bounds: [none] },
  ],
  async measure(contender, setting) {
    const { slowest, median, firstAnswerMaxMs, unserved, broken } = await crowd(contender, setting, CROWD, 0)
    return { 'slowest / median': 100 * slowest / median, 'last first answer': firstAnswerMaxMs, unserved, broken }
  },
}
