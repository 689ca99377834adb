/** `cirque validate`: what a start would refuse, without a start. */
import path from 'node:path'
import type { Command } from 'commander'
import { unknownVariables } from '../../src/config/environment.ts'
import type { DescribedService, ServerDescription } from '../../src/ipc/server-description.ts'
import { checkListenerNames } from '../describe-application.ts'
import { configFrom, originOf } from '../run.ts'
import { describe, existingApplication } from './chosen-application.ts'
import { say } from './shared-options.ts'
import type { Shared } from './shared-options.ts'

export function addValidateCommand(program: Command): void {
  program.command('validate')
    .description('check a configuration file, and load the application that it is for; binds nothing')
    .argument('[application]', 'module that calls server.runForever()')
    .argument('[arguments...]', 'passed on to the application (put -- before them)')
    .option('-c, --config <file>', 'configuration file (default: cirque.yaml, if it is there)')
    .option('--json', 'for programs')
    .action(async (application: string | undefined, args: string[], options: Shared & { config?: string }) => {
      const config = configFrom(originOf(options.config))
      const { supervisor, log, limits, listeners } = config
      for (const name of unknownVariables(process.env)) process.stderr.write(`cirque: the variable ${name} sets nothing\n`)
      if (application === undefined && options.config !== undefined) {
        // Without the application only the names of its listeners stay unchecked.
        const valid = { ok: true, application: null, supervisor, log, limits, listeners, description: null }
        say(options, valid, () => `${options.config} is valid`)
        return
      }
      const file = existingApplication(application)
      const description = await describe(file, args, supervisor, listeners)
      checkListenerNames(config, description)
      const valid = { ok: true, application: file, supervisor, log, limits, listeners, description }
      say(options, valid, () => descriptionText(file, description))
    })
}

function descriptionText(application: string, description: ServerDescription): string {
  return [
    `${path.relative('', application)} is fine`,
    ...description.services.flatMap(service => [
      `  ${service.name}: ${service.kind}${service.dependsOn.length === 0 ? '' : `, after ${service.dependsOn.join(', ')}`}`,
      ...description.listeners.filter(one => one.service === service.name).map(({ canonical }) => `    listens on ${canonical}`),
      ...hooksText(service),
      ...(service.modules ?? []).flatMap(module => [`    module ${module.name}`, ...hooksText(module).map(line => `  ${line}`)]),
    ]),
  ].join('\n')
}

/** What is no hook is shown as well: a name that nothing asks for may have been meant as one. */
function hooksText({ hooks, otherMethods }: Pick<DescribedService, 'hooks' | 'otherMethods'>): string[] {
  return [
    ...hooks === undefined ? [] : [`    hooks: ${hooks.join(', ')}`],
    ...otherMethods === undefined || otherMethods.length === 0 ? [] : [`    methods that are no hooks: ${otherMethods.join(', ')}`],
  ]
}
