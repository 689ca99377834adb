/**
 * Writes a project of one's own into an empty folder: the files of template/, a package.json with what they need, and a
 * unit for systemd. Invariants: nothing is asked, nothing that was there is touched, and a project is whole or not there.
 * Runs with Node.js 20, which is what many machines have: the one that Cirque needs comes with the project.
 */
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { dependencyOn, ownPackage, type Package } from './origins.ts'
import { RUNTIMES, TOOLS } from './pins.ts'
import { ProjectError } from './project-error.ts'

export interface Project {
  /** Of the package and of the service: the folder's, in the letters that both may have. */
  readonly name: string
  readonly folder: string
  /** What it asks for to get Cirque. */
  readonly dependency: string
  /** Relative to the folder, in the order of their names. */
  readonly files: readonly string[]
}

const TEMPLATE = fileURLToPath(new URL('template/', import.meta.url))
const UNIT = 'scripts/systemd/cirque.service'
/** The word of the template that stands for the project's name. */
const PLACE_OF_NAME = /\bPROJECT\b/g
/** npm leaves files with these names out of a package, or takes them for its own. */
const DOTTED = ['dockerignore', 'gitignore']
/** Of Cirque, which takes an application in a package of this name for its own; of a package that it needs; of a user with rights. */
const TAKEN = new Set(['cirque', 'create-cirque', 'typescript', 'root'])
/** Of a user's name on Linux, which is the narrowest: the service runs as a user of its own. */
const NAME_MAX = 32

/** @param given path of the folder, from `from` on; it is made, or it is there and empty. @throws ProjectError */
export function createProject(given: string, from: string): Project {
  const folder = path.resolve(from, given)
  const name = nameOf(folder)
  const source = ownPackage()
  const dependency = dependencyOn(source)
  const files = filesOf(name, dependency, source)
  const made = makeFolder(folder)
  const written: string[] = []
  try {
    for (const [file, text] of files) {
      // 'wx': what came in between is not overwritten either.
      fs.writeFileSync(path.join(folder, file), text, { flag: 'wx' })
      written.push(file)
    }
  } catch (error) {
    for (const file of written) fs.rmSync(path.join(folder, file), { force: true })
    if (made !== undefined) fs.rmSync(made, { recursive: true, force: true })
    throw new ProjectError(`${folder} cannot be written to (${codeOf(error)}); name a folder that this user may make`, false)
  }
  return { name, folder, dependency, files: written }
}

/** @throws ProjectError */
function nameOf(folder: string): string {
  const base = path.basename(folder)
  const name = base.toLowerCase().replace(/[^a-z0-9-]+/g, '-').replace(/^[^a-z]+|-+$/g, '')
  if (name === '') throw new ProjectError(`${folder} gives no name for a package; use a name that begins with a letter`, true)
  if (TAKEN.has(name)) throw new ProjectError(`a project cannot be called ${name}, which is taken; use another name`, true)
  if (name.length > NAME_MAX) throw new ProjectError(`${name} is longer than ${NAME_MAX} letters; use a shorter name`, true)
  return name
}

/** @returns the topmost folder that was made; undefined when it was there. @throws ProjectError */
function makeFolder(folder: string): string | undefined {
  let found: readonly string[]
  try {
    const made = fs.mkdirSync(folder, { recursive: true })
    if (made !== undefined) return made
    found = fs.readdirSync(folder)
  } catch (error) {
    const code = codeOf(error)
    const isFile = code === 'EEXIST' || code === 'ENOTDIR'
    const why = isFile ? 'is a file, or lies in one; use another name' : `cannot be made (${code}); name a folder that this user may make`
    throw new ProjectError(`${folder} ${why}`, false)
  }
  // A repository that was made first holds no file of its own yet.
  if (found.every(name => name === '.git')) return undefined
  const some = found.toSorted().slice(0, 3).join(', ')
  throw new ProjectError(`${folder} is not empty (${some}${found.length > 3 ? ', ...' : ''}); use a name that is free, or empty it`, false)
}

function codeOf(error: unknown): string { return (error as NodeJS.ErrnoException).code ?? String(error) }

/** Their names and texts. */
function filesOf(name: string, dependency: string, source: Package): readonly (readonly [file: string, text: string])[] {
  const files = fs.readdirSync(TEMPLATE).map(file => {
    const text = fs.readFileSync(path.join(TEMPLATE, file), 'utf8').replace(PLACE_OF_NAME, name)
    return [DOTTED.includes(file) ? `.${file}` : file, text] as const
  })
  const unit = fs.readFileSync(path.join(source.folder, UNIT), 'utf8')
  files.push(['package.json', manifestOf(name, dependency)], [`${name}.service`, unitOf(name, unit)])
  return files.toSorted(([one], [other]) => one < other ? -1 : 1)
}

function manifestOf(name: string, dependency: string): string {
  return `${JSON.stringify({
    name, version: '0.1.0', private: true, type: 'module',
    scripts: {
      dev: 'exec cirque dev app.ts', start: 'exec cirque run app.ts', origin: 'exec node origin.ts',
      test: 'tsc && node --test', types: 'tsc',
    },
    dependencies: { cirque: dependency },
    optionalDependencies: RUNTIMES,
    devDependencies: TOOLS,
  }, null, 2)}\n`
}

/** The unit that Cirque comes with, for an application that is called so and brings its configuration. */
function unitOf(name: string, unit: string): string {
  const current = `/opt/${name}/current`
  const why = 'node_modules/cirque/scripts/systemd/README.md says how to install it and why each line is there'
  return unit
    .replace(/^# Cirque under systemd .*\n/, `# ${name} under systemd (252 or newer); ${why}.\n`)
    .replace(/^Description=.*$/m, `Description=${name}, an edge of Cirque`)
    .replace(/^# The paths of your application .*\n/m, '')
    .replace(/^(ExecStart=\S+ run) .*$/m, `$1 -c ${current}/cirque.yaml ${current}/app.ts`)
    .replaceAll('/opt/cirque/current', current)
    .replaceAll('/run/cirque', `/run/${name}`)
    .replace(/^(RuntimeDirectory|User|Group)=cirque$/gm, `$1=${name}`)
}
