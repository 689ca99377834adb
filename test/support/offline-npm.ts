/**
 * A machine of somebody who has never had Cirque: an older Node.js, its npm, and no registry. `npm install` takes packages
 * from this checkout and Cirque itself from a folder that was unpacked from the packed file; `npx cirque` outside of a
 * project runs that one, as npx does with what it has fetched. Everything else that npm and npx do is their own.
 */
import { chmodSync } from 'node:fs'
import path from 'node:path'
import type { TestContext } from 'node:test'
import { olderNode } from './clean-clone.ts'
import { temporaryFolder, writeTree } from './temporary-folder.ts'

const SHELF = path.join(import.meta.dirname, '../../node_modules')

/** Runs in the project's folder, with the older Node.js. */
const INSTALL = `
  import fs from 'node:fs'
  import path from 'node:path'
  const [shelf, cirque] = process.argv.slice(2)
  const read = folder => JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'))
  const wanted = read('.')
  fs.mkdirSync('node_modules/.bin', { recursive: true })
  const install = (name, version, optional) => {
    const source = name === 'cirque' ? cirque : path.join(shelf, name)
    if (optional && !fs.existsSync(source)) return
    const { bin, ...found } = read(source)
    // Another name for a package: 'npm:@scope/name@1.2.3'.
    const exact = version.replace(/^npm:.*@/, '')
    if (!version.startsWith('file:') && found.version !== exact) throw new Error(name + '@' + version + ' is not there')
    const target = path.join('node_modules', name)
    fs.mkdirSync(path.dirname(target), { recursive: true })
    if (name === 'cirque') fs.cpSync(source, target, { recursive: true })
    else fs.symlinkSync(source, target)
    for (const [command, file] of Object.entries(bin ?? {})) fs.symlinkSync(path.join('..', name, file), 'node_modules/.bin/' + command)
  }
  for (const [name, version] of Object.entries({ ...wanted.dependencies, ...wanted.devDependencies })) install(name, version, false)
  for (const [name, version] of Object.entries(wanted.optionalDependencies)) install(name, version, true)
  for (const [name, version] of Object.entries(read(cirque).dependencies)) install(name, version, false)
`

/**
 * The environment of a shell on such a machine. Null after the test was marked as skipped.
 * @param cirque the unpacked package
 */
export function offlineMachine(t: TestContext, cirque: string): NodeJS.ProcessEnv | null {
  const older = olderNode(t)
  if (older === null) return null
  const folder = temporaryFolder(t)
  const own = Object.entries(older).filter(([name]) => !name.startsWith('CIRQUE_'))
  writeTree(folder, {
    'install.mjs': INSTALL,
    'bin/npm': `#!/bin/sh
      [ "$1" = install ] && exec node '${folder}/install.mjs' '${SHELF}' '${cirque}'
      PATH=\${PATH#*:} exec npm "$@"`,
    'bin/npx': `#!/bin/sh
      [ "$1" = cirque ] && [ ! -e node_modules/.bin/cirque ] && shift && exec '${cirque}/bin/cirque' "$@"
      PATH=\${PATH#*:} exec npx "$@"`,
  })
  for (const name of ['npm', 'npx']) chmodSync(path.join(folder, 'bin', name), 0o755)
  return {
    ...Object.fromEntries(own), HOME: folder, npm_config_offline: 'true', npm_config_update_notifier: 'false',
    PATH: `${folder}/bin${path.delimiter}${older['PATH'] ?? ''}`,
  }
}
