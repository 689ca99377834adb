/**
 * Which files an application is loaded from: the application, what it imports, and so on, packages left out. What it imports and
 * nobody finds is listed, too, so that whoever waits for a change sees it appear.
 */
import { registerHooks } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const PACKAGES = `${path.sep}node_modules${path.sep}`

/** From now on. @returns the files that were read, packages included; Node.js parses the last one before it reads another. It grows. */
export function lookAtLoadedFiles(): readonly string[] {
  const files: string[] = []
  registerHooks({
    load(url, context, next) {
      if (url.startsWith('file:')) files.push(fileURLToPath(url))
      return next(url, context)
    },
  })
  return files
}

/** From now on. @returns the files so far, in order; it grows. */
export function listImportedFiles(): ReadonlySet<string> {
  const files = new Set<string>()
  const note = (url: string): void => {
    if (!url.startsWith('file:')) return
    const file = fileURLToPath(url)
    if (!file.includes(PACKAGES)) files.add(file)
  }
  registerHooks({
    resolve(specifier, context, next) {
      try {
        const found = next(specifier, context)
        note(found.url)
        return found
      } catch (error) {
        const { parentURL } = context
        const isPath = /^\.{0,2}\//.test(specifier)
        if (isPath && parentURL !== undefined && URL.canParse(specifier, parentURL)) note(new URL(specifier, parentURL).href)
        throw error
      }
    },
  })
  return files
}
