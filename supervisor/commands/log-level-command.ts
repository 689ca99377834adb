/** `cirque log-level`: what supervisor and workers write of themselves, for a while. */
import { Argument, type Command } from 'commander'
import { LOG_LEVELS, type LogLevel } from '../../src/config/log-options.ts'
import { formatDuration, parseDuration } from '../../src/config/units.ts'
import { OptionError } from '../../src/primitives/option-table.ts'
import { LEVEL_MAX_MS, type LevelStatus } from '../log-level.ts'
import { ask } from './chosen-supervisor.ts'
import { levelText } from './status-text.ts'
import { say, shared, type Shared } from './shared-options.ts'

/** Long enough to see something happen, and short enough to be forgotten. */
const USUAL_TIME = '10m'

export function addLogLevelCommand(program: Command): void {
  shared(program.command('log-level').description('what the process log of all processes says, for a while; without a level, what holds'))
    .addArgument(new Argument('[level]', 'the least weight of a line; configured goes back at once').choices([...LOG_LEVELS, 'configured']))
    .option('--for <duration>', `how long, until what is configured holds again (default: ${USUAL_TIME})`)
    .action(async (level: LogLevel | 'configured' | undefined, options: Shared & { for?: string }) => {
      const forMs = timeOf(options.for ?? USUAL_TIME)
      const status = await ask(options, { tag: 'log-level', level: level ?? '', forMs }) as LevelStatus
      say(options, status, () => levelText(status))
    })
}

function timeOf(written: string): number {
  const ms = parseDuration(written)
  if (ms !== null && ms > 0 && ms <= LEVEL_MAX_MS) return ms
  const most = formatDuration(LEVEL_MAX_MS)
  throw OptionError.of('--for', written, `use a duration such as ${USUAL_TIME}, of at most ${most}; log.level lasts longer`)
}
