/** `cirque run` and `cirque dev`: this very process becomes the supervisor. */
import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import type { Command } from 'commander'
import { passInheritedSockets } from '../../src/ipc/inherited-sockets.ts'
import { DEV_FLAGS, runDev } from '../dev.ts'
import { configFrom, originOf, runSupervisor } from '../run.ts'
import { existingApplication } from './chosen-application.ts'
import type { Shared } from './shared-options.ts'

type RunFlags = Shared & { config?: string; workers?: string; adminAddress?: string }

export function addRunCommands(program: Command): void {
  program.command('run')
    .description('run an application in the foreground; ends with SIGTERM or Ctrl-C')
    .argument('[application]', 'module that calls server.runForever()')
    .argument('[arguments...]', 'passed on to the application (put -- before them)')
    .option('-c, --config <file>', 'configuration file (default: cirque.yaml, if it is there)')
    .option('--workers <n>', "worker processes, or 'auto'")
    .option('--state-dir <folder>', 'folder of the control sockets')
    .option('--admin-address <address>', 'where /livez, /readyz and /startupz answer')
    .option('--json', 'log JSON lines (as always when stderr is no terminal)')
    .action(async (application: string | undefined, args: string[], options: RunFlags) => {
      const file = existingApplication(application)
      const origin = originOf(options.config, {
        'supervisor.workers': options.workers,
        'supervisor.stateDir': options.stateDir,
        'supervisor.adminAddress': options.adminAddress,
        'log.format': options.json === true ? 'json' : undefined,
      })
      const config = configFrom(origin)
      await handOverToOwnInstallation(file)
      await runSupervisor({ application: file, args, config, origin })
    })

  program.command('dev')
    .description('run an application while you write it: a save replaces its one worker, and requests show as they pass')
    .argument('[application]', 'module that calls server.runForever()')
    .argument('[arguments...]', 'passed on to the application (put -- before them)')
    .option('-c, --config <file>', 'configuration file (default: cirque.yaml, if it is there)')
    .option('--state-dir <folder>', 'folder of the control sockets')
    .action(async (application: string | undefined, args: string[], options: RunFlags) => {
      const file = existingApplication(application)
      await handOverToOwnInstallation(file)
      await runDev({ application: file, args, origin: originOf(options.config, { ...DEV_FLAGS, 'supervisor.stateDir': options.stateDir }) })
    })
}

/** The installation of Cirque that an application finds is the one that runs it: its core and its supervisor belong together. */
async function handOverToOwnInstallation(application: string): Promise<void> {
  let theirs: string
  try { theirs = path.dirname(fs.realpathSync(createRequire(application).resolve('cirque/package.json'))) } catch { return }
  const here = fs.realpathSync(import.meta.filename)
  if (!path.relative(theirs, here).startsWith('..')) return
  const entry = ['supervisor/cli.ts', 'dist/supervisor/cli.js'].map(name => path.join(theirs, name)).find(name => fs.existsSync(name))
  if (entry === undefined || process.execve === undefined) return
  await passInheritedSockets()
  const argv = [process.execPath, ...process.execArgv, entry, ...process.argv.slice(2)]
  process.execve(process.execPath, argv, process.env as Record<string, string>)
}
