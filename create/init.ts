/** The command that makes a project: reads its one argument, and says what was made and what comes next. */
import path from 'node:path'
import { ProjectError } from './project-error.ts'
import { createProject, type Project } from './project.ts'

const USAGE = `usage: cirque init NAME        (or: npm create cirque NAME)

Makes the folder NAME with an edge proxy of your own: application, test, types, container, systemd unit.
It asks nothing, and takes only a folder that is new or empty; NAME may be . for the one you are in.
`

/** @returns what to print. @throws ProjectError */
export function init(args: readonly string[]): string {
  if (args.includes('--help') || args.includes('-h')) return USAGE
  const option = args.find(arg => arg.startsWith('-'))
  if (option !== undefined) throw new ProjectError(`init takes no ${option}; use cirque init NAME`, true)
  const [name = '', ...more] = args
  if (name === '') throw new ProjectError('which folder? cirque init NAME makes one', true)
  if (more.length > 0) throw new ProjectError(`init makes one project, but was given ${args.join(', ')}; name one`, true)
  return nextSteps(createProject(name, process.cwd()))
}

function nextSteps({ name, folder, dependency, files }: Project): string {
  const enter = path.relative('', folder)
  const copy = dependency.startsWith('file:') ? dependency.slice('file:'.length) : null
  return [
    `Made ${name} in ${folder}: ${files.length} files.`,
    '',
    ...(enter === '' ? [] : [`  cd ${forShell(enter)}`]),
    '  npm install      # the Node.js that Cirque needs comes with it',
    '  npm run origin   # in a terminal of its own: a small application for the edge to stand before',
    '  npm run dev      # serves it while you write it: curl http://127.0.0.1:8080/hello',
    '  npm test         # checks the types, and asks the application without a socket',
    '',
    ...(copy === null ? [] : [`Cirque is taken from ${copy}, where this copy came from.`, '']),
    'What to edit and what else there is: README.md in that folder.',
    '',
  ].join('\n')
}

/** A path as one word of a shell. */
function forShell(folder: string): string {
  return /^[\w@%+=:,./-]+$/.test(folder) ? folder : `'${folder.replaceAll("'", String.raw`'\''`)}'`
}
