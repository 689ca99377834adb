/** Where a function of the application stands: for errors about what it is called, which come from somewhere else. */
import fs from 'node:fs'
import type { Debugger, Runtime } from 'node:inspector'
import { fileURLToPath } from 'node:url'

/** @returns the place, the line and a mark as Node.js puts them before a stack; '' when they cannot be found out. */
export function functionPlace(of: Function): string {
  const found = locate(of)
  if (found === null || !found.url.startsWith('file:')) return ''
  try {
    const file = fileURLToPath(found.url)
    const text = fs.readFileSync(file, 'utf8').split('\n')[found.line] ?? ''
    // V8 names the place behind the name: its parameters.
    const column = Math.max(0, text.lastIndexOf(of.name, found.column))
    return `${file}:${found.line + 1}\n${text}\n${' '.repeat(column)}^\n\n`
  } catch { return '' }
}

/** Asks V8, which tells nobody but a debugger. Line and column count from 0. */
function locate(of: Function): { url: string; line: number; column: number } | null {
  // Not by import: it is needed only when something is wrong.
  const session = new (process.getBuiltinModule('node:inspector').Session)()
  const asked = globalThis as { [ASKED]?: Function }
  try {
    session.connect()
    const urls = new Map<string, string>()
    session.on('Debugger.scriptParsed', ({ params }) => { urls.set(params.scriptId, params.url) })
    session.post('Debugger.enable')
    asked[ASKED] = of
    let place: Debugger.Location | null = null
    session.post('Runtime.evaluate', { expression: `globalThis[Symbol.for('${ASKED.description!}')]` }, (_, evaluated) => {
      const { objectId } = evaluated.result
      if (objectId !== undefined) session.post('Runtime.getProperties', { objectId }, (_error, found) => { place = locationIn(found) })
    })
    return placeOf(place, urls)
  } catch { return null } finally {
    delete asked[ASKED]
    session.disconnect()
  }
}

const ASKED: unique symbol = Symbol.for('cirque.askedFunction') as never

function locationIn({ internalProperties = [] }: Runtime.GetPropertiesReturnType): Debugger.Location | null {
  return internalProperties.find(({ name }) => name === '[[FunctionLocation]]')?.value?.value as Debugger.Location | undefined ?? null
}

function placeOf(place: Debugger.Location | null, urls: ReadonlyMap<string, string>): { url: string; line: number; column: number } | null {
  if (place === null) return null
  return { url: urls.get(place.scriptId) ?? '', line: place.lineNumber, column: place.columnNumber ?? 0 }
}
