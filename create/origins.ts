/** Where this copy of Cirque came from, so that a project that it makes gets the same one. Nothing here asks a registry. */
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export interface Package {
  /** Its folder, free of symbolic links. */
  readonly folder: string
  readonly name: string
  readonly version: string
}

/** Names under which this file is published. */
const NAMES = ['cirque', 'create-cirque']

/** The package that this file belongs to, source or built. */
export function ownPackage(): Package {
  for (const up of ['../', '../../']) {
    const folder = fileURLToPath(new URL(up, import.meta.url))
    const { name, version } = readJson(path.join(folder, 'package.json')) as { name?: string; version?: string }
    if (name !== undefined && version !== undefined && NAMES.includes(name)) return { folder: fs.realpathSync(folder), name, version }
  }
  throw new Error(`no package.json of ${NAMES.join(' or ')} lies above ${fileURLToPath(import.meta.url)}; install the package again`)
}

/**
 * What a package.json asks for to get the same `cirque`: the version, or `file:` and a path when this copy is a checkout or
 * was installed from a packed file, which is where npm notes it (`node_modules/.package-lock.json`).
 */
export function dependencyOn({ folder, name, version }: Package): string {
  if (name !== 'cirque') return version
  const modules = path.dirname(folder)
  if (path.basename(modules) !== 'node_modules') return `file:${folder}`
  const { packages = {} } = readJson(path.join(modules, '.package-lock.json')) as { packages?: Record<string, { resolved?: unknown }> }
  const resolved = packages[`node_modules/${name}`]?.resolved
  if (typeof resolved !== 'string' || !resolved.startsWith('file:')) return version
  const file = path.resolve(path.dirname(modules), resolved.slice('file:'.length))
  return fs.existsSync(file) ? `file:${file}` : version
}

/** {} when there is no such file, or no object in it. */
function readJson(file: string): object {
  try {
    const found: unknown = JSON.parse(fs.readFileSync(file, 'utf8'))
    return typeof found === 'object' && found !== null ? found : {}
  } catch { return {} }
}
