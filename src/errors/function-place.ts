/** Where a function of the application stands: for errors about what it is called or what it gave, which are made somewhere else. */
import fs from 'node:fs'
import type { Debugger, Runtime, Session } from 'node:inspector'
import { fileURLToPath } from 'node:url'
import type { SourcePlace } from './code-frame.ts'

/** What was found out, also that nothing was. */
const places = new WeakMap<Function, { readonly place: SourcePlace | null; readonly text: string }>()
/** By V8's number of the script. */
const urls = new Map<string, string>()

/**
 * Stops the thread, for a tenth of a second the first time: for what a person is about to read.
 * @returns the place of its name; null when it cannot be found out
 */
export function functionPlace(of: Function): SourcePlace | null { return find(of).place }

/** @returns the place, the line and a mark as Node.js puts them before a stack; '' when they cannot be found out. */
export function functionHead(of: Function): string {
  const { place, text } = find(of)
  return place === null ? '' : `${place.file}:${place.line}\n${text}\n${' '.repeat(place.column - 1)}^\n\n`
}

function find(of: Function): { readonly place: SourcePlace | null; readonly text: string } {
  const known = places.get(of)
  if (known !== undefined) return known
  const found = read(of)
  places.set(of, found)
  return found
}

function read(of: Function): { readonly place: SourcePlace | null; readonly text: string } {
  const nowhere = { place: null, text: '' }
  const found = locate(of)
  if (found === null || !found.url.startsWith('file:')) return nowhere
  try {
    const file = fileURLToPath(found.url)
    const text = fs.readFileSync(file, 'utf8').split('\n')[found.line] ?? ''
    // V8 names the place behind the name: its parameters.
    const column = Math.max(0, text.lastIndexOf(of.name, found.column))
    return { place: { file, line: found.line + 1, column: column + 1 }, text }
  } catch { return nowhere }
}

/** Asks V8, which tells nobody but a debugger. Line and column count from 0. */
function locate(of: Function): { url: string; line: number; column: number } | null {
  // Not by import: it is needed only when something is wrong.
  const session = new (process.getBuiltinModule('node:inspector').Session)()
  const asked = globalThis as { [ASKED]?: Function }
  try {
    session.connect()
    asked[ASKED] = of
    let place: Debugger.Location | null = null
    session.post('Runtime.evaluate', { expression: `globalThis[Symbol.for('${ASKED.description!}')]` }, (_, evaluated) => {
      const { objectId } = evaluated.result
      if (objectId !== undefined) session.post('Runtime.getProperties', { objectId }, (_error, found) => { place = locationIn(found) })
    })
    return placeOf(place, session)
  } catch { return null } finally {
    delete asked[ASKED]
    session.disconnect()
  }
}

const ASKED: unique symbol = Symbol.for('cirque.askedFunction') as never

function locationIn({ internalProperties = [] }: Runtime.GetPropertiesReturnType): Debugger.Location | null {
  return internalProperties.find(({ name }) => name === '[[FunctionLocation]]')?.value?.value as Debugger.Location | undefined ?? null
}

function placeOf(place: Debugger.Location | null, session: Session): { url: string; line: number; column: number } | null {
  if (place === null) return null
  if (!urls.has(place.scriptId)) readUrls(session)
  return { url: urls.get(place.scriptId) ?? '', line: place.lineNumber, column: place.columnNumber ?? 0 }
}

/** Of the scripts there are. V8 reads them all for it, which takes a tenth of a second in a process that has just begun. */
function readUrls(session: Session): void {
  session.on('Debugger.scriptParsed', ({ params }) => { urls.set(params.scriptId, params.url) })
  session.post('Debugger.enable')
}
