/** `cirque init`, listed here with the others; bin/cirque starts create/main for it, which needs no Node.js as new as this one. */
import type { Command } from 'commander'
import { ProjectError } from '../../create/project-error.ts'
import { EXIT } from '../exit-codes.ts'
import { Failure } from './shared-options.ts'

export function addInitCommand(program: Command): void {
  program.command('init')
    .description('make a project of your own in a new folder')
    .argument('[name]', 'the folder, new or empty')
    .action(async (name?: string) => {
      const { init } = await import('../../create/init.ts')
      try {
        process.stdout.write(init(name === undefined ? [] : [name]))
      } catch (error) {
        throw error instanceof ProjectError ? new Failure(error.usage ? EXIT.usage : EXIT.failed, error.message) : error
      }
    })
}
