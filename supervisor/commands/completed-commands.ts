/**
 * The command line as a shell needs to know it to complete what is typed: read off commander's own table, from which help
 * and parsing come as well, so that there is no second list. completion-scripts.ts makes a script of it for each shell.
 */
import type { Argument, Command, Option } from 'commander'

/** What can be offered for a value: names of files, ids of the workers that run, one of some words, or nothing. */
export type Offer = 'folder' | 'file' | 'worker' | 'nothing' | readonly string[]

export interface CompletedOption {
  /** `-c`, `--config`; only the long one where there is no short one. */
  readonly flags: readonly string[]
  readonly description: string
  /** null: it takes none. */
  readonly value: { readonly name: string; readonly optional: boolean; readonly offer: Offer } | null
}

export interface CompletedArgument { readonly name: string; readonly variadic: boolean; readonly offer: Offer }

export interface CompletedCommand {
  /** Words that lead to it, without the program's name: `['workers', 'ls']`; the program itself has none. */
  readonly words: readonly string[]
  readonly description: string
  readonly options: readonly CompletedOption[]
  readonly arguments: readonly CompletedArgument[]
  /** Last words of those below it. */
  readonly below: readonly string[]
}

/** What a value's name in the help says of it. */
const OFFERS: Readonly<Record<string, Offer>> = { folder: 'folder', file: 'file', application: 'file', arguments: 'file', worker: 'worker' }

/** The program, and every command that its help shows, each before those below it. */
export function completedCommands(command: Command, words: readonly string[] = []): CompletedCommand[] {
  const help = command.createHelp()
  const below = help.visibleCommands(command).filter(one => one.name() !== 'help')
  return [
    {
      words,
      description: command.description(),
      options: help.visibleOptions(command).map(completedOption),
      arguments: command.registeredArguments.map(completedArgument),
      below: below.map(one => one.name()),
    },
    ...below.flatMap(one => completedCommands(one, [...words, one.name()])),
  ]
}

function completedOption({ short, long, flags, description, required, optional, argChoices }: Option): CompletedOption {
  // `-c, --config <file>`
  const name = /[<[]([^\]>.]+)/.exec(flags)?.[1] ?? ''
  return {
    flags: [short, long].filter(flag => flag !== undefined),
    description,
    value: required || optional ? { name, optional, offer: argChoices ?? offerFor(name) } : null,
  }
}

function completedArgument(argument: Argument): CompletedArgument {
  const name = argument.name()
  return { name, variadic: argument.variadic, offer: argument.argChoices ?? offerFor(name) }
}

function offerFor(name: string): Offer { return OFFERS[name] ?? 'nothing' }
