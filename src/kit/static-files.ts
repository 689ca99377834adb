/**
 * Files of a folder as answers. Types, validators and streams come from @fastify/send, which answers no request by itself but says
 * status, fields and stream; it is loaded when the first folder is given, so that other applications do not pay for it.
 *
 * What it leaves open is decided here. Links and what is no regular file must not lead out of the folder. It looks at a file by its name
 * and opens it by its name, and between the two a release may put another one there, or a link: what was opened is looked at again, and
 * is served under no length and validators but its own.
 *
 * Conditions are held to RFC 9110. The validators are weak ones, so If-Match (13.1.1) and If-Range by ETag (13.1.5) never match; a date
 * that is none is no condition; a suffix longer than the file is the whole file, a Range that makes no sense is none, and so is one of
 * several ranges, which may always be answered whole (14.2).
 */
import { once } from 'node:events'
import { fstat, realpathSync, statSync, type Stats } from 'node:fs'
import { readlink, realpath } from 'node:fs/promises'
import path from 'node:path'
import type { SendResult, SendOptions } from '@fastify/send'
import type { Readable } from 'node:stream'
import { HeaderMap } from '../http/header-map.ts'
import { parseHttpDate } from '../http/http-date.ts'
import {
  count, defaultsOf, flag, list, needed, OptionError, path as pathOption, resolveOptions, type OptionTable,
} from '../primitives/option-table.ts'
import type { Session, Verdict } from '../proxy/session.ts'

/** Which files, and how long they may be kept. */
export interface StaticFilesOptions {
  /** The folder. Must be given. */
  root: string
  /** Files that stand for a folder, the first that is there; [] for none. @default ['index.html'] */
  index?: readonly string[]
  /** Endings that are tried, without their dot, where there is no file and the name has none. @default [] */
  extensions?: readonly string[]
  /** How long caches may keep an answer without asking, in seconds. 0 makes them ask each time. @default 0 */
  maxAgeS?: number
  /** Whether browsers need not ask within that time even when they reload: for names that change with the content. @default false */
  immutable?: boolean
  /** Whether names that begin with a dot are served, below folders of such names too. @default false */
  dotfiles?: boolean
  /** Whether a request that no file is for goes on, to the origin, instead of being answered with 404 (or 405). @default false */
  fallsThrough?: boolean
}

const YEAR_S = 31_536_000

export const STATIC_FILES_OPTIONS = {
  root: needed(pathOption('', 'the path of a folder')),
  index: list(['index.html'], 'names of files', isName),
  extensions: list([], 'endings without a dot before them', ending => isName(ending) && !ending.startsWith('.')),
  maxAgeS: count(0, { max: YEAR_S, zero: 'makes them ask each time' }),
  immutable: flag(false),
  dotfiles: flag(false),
  fallsThrough: flag(false),
} satisfies OptionTable<StaticFilesOptions>

export const STATIC_FILES_DEFAULTS: Readonly<Required<StaticFilesOptions>> = defaultsOf<StaticFilesOptions>(STATIC_FILES_OPTIONS)

function isName(name: string): boolean { return name !== '' && !/[/\\\0]/.test(name) }

/** Answers with a file. @param file its path below the folder, percent-encoded as in a URL; left out: the path of the request */
export type StaticFiles = (session: Session, file?: string) => Promise<Verdict>

/** How often a file is looked at again that was another one when it was opened. */
const LOOKS_MAX = 3

/** Thrown where the library would go on with what must not be served. */
class NotServed extends Error {}

/** Fields of a request that decide about a file (RFC 9110 13.1, 14.2). */
const CONDITIONS = ['if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since', 'if-range', 'range', 'cache-control'] as const
/** No file has it. */
const NO_ETAG = '""'
type Conditions = Partial<Record<(typeof CONDITIONS)[number], string>>

/**
 * A filter that answers GET and HEAD with files of a folder:
 *
 *   const files = staticFiles({ root: '/srv/www', maxAgeS: 3600 })
 *   requestFilter: session => files(session)                        // all paths
 *   requestFilter: session => files(session, match.rest)            // what a route such as /assets/* leaves
 *
 * A folder without the slash behind it is redirected to the one with it; so is /assets where the route is /assets/*. What lies outside
 * of the folder, by a link too, is not there.
 * @throws OptionError with every option that would not do, also where the folder is not there
 */
export function staticFiles(options: StaticFilesOptions): StaticFiles {
  const { root, index, extensions, maxAgeS, immutable, dotfiles, fallsThrough } =
    resolveOptions<StaticFilesOptions>('staticFiles', STATIC_FILES_OPTIONS, options, STATIC_FILES_DEFAULTS)
  const folder = path.resolve(root)
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw OptionError.of('staticFiles.root', root, 'use the path of a folder that is there')
  }
  const library = import('@fastify/send')
  library.catch(() => { /* Each request that waits for it is told. */ })
  const wanted: SendOptions = {
    root: folder, index: [...index], extensions: [...extensions], maxAge: maxAgeS * 1000, immutable,
    dotfiles: dotfiles ? 'allow' : 'ignore',
  }
  let real = realpathSync(folder)
  const holds = async (file: string): Promise<boolean> => {
    const found = await realpath(file)
    if (isWithin(real, found)) return true
    // A release may have put another folder in its place.
    real = await realpath(folder)
    return isWithin(real, found)
  }

  return async (session, file = session.request.path) => {
    const { method } = session.request
    const refuse = (status: 404 | 405, fields = {}): Verdict => fallsThrough ? 'continue' : session.respond(status, fields)
    if (method !== 'GET' && method !== 'HEAD') return refuse(405, { Allow: 'GET, HEAD' })
    const { path: asked } = session.request, hasSlash = asked.endsWith('/')
    if (file === '' && !hasSlash) return toFolder(session) ?? refuse(404)
    const { send } = await library
    let name = file.startsWith('/') ? file : `/${file}`
    for (let looks = 0; looks < LOOKS_MAX; looks++) {
      const headers = conditionsOf(session)
      const onFile = async (found: string, stat: Stats): Promise<void> => {
        if (!stat.isFile() || !await holds(found)) throw new NotServed()
        settleRange(headers, stat)
      }
      try {
        const { statusCode: status, stream, type, headers: given, metadata } =
          await send({ method, headers } as unknown as Readable, name, { ...wanted, onFile }) as Result
        if (type === 'file' && (status === 304 || method === 'HEAD')) {
          stream.destroy()
          return session.respond(status, fieldsOf(given, status, metadata.stat!))
        }
        if (type === 'file') {
          // A file that cannot be opened has an answer; once its head is sent there would be none.
          const [fd] = await once(stream, 'open') as [number]
          if (await isStill(fd, metadata.stat!, real)) return session.respond(status, fieldsOf(given, status, metadata.stat!), stream)
        }
        stream.destroy()
        if (type === 'file') continue
        if (type === 'directory') {
          if (!await holds(metadata.path!)) return refuse(404)
          if (!hasSlash) return toFolder(session) ?? refuse(404)
          // Links in its index are read as they should be: the client came by the folder's own path, whatever `file` is.
          name += '/'
          continue
        }
        switch (status) {
          case 412: return session.respond(412)
          case 416: return session.respond(416, { 'Content-Range': given['Content-Range'] ?? 'bytes */*' })
          case 500: throw metadata.error
          // 400 and 403 are for what could be no file either.
          default: return refuse(404)
        }
      } catch (thrown) {
        if (thrown instanceof NotServed || isGone(thrown)) return refuse(404)
        throw thrown
      }
    }
    return session.respond(503, { 'Retry-After': '1' })
  }
}

/** What the library gives, whichever of its three types it is. */
interface Result extends Pick<SendResult, 'statusCode' | 'headers' | 'stream' | 'type'> {
  readonly metadata: { readonly path?: string; readonly stat?: Stats; readonly error?: Error }
}

function isWithin(folder: string, file: string): boolean {
  return file === folder || file.startsWith(folder.endsWith(path.sep) ? folder : folder + path.sep)
}

function statOf(fd: number): Promise<Stats> {
  return new Promise((resolve, reject) => {
    fstat(fd, (error, stat) => {
      if (error === null) resolve(stat)
      else reject(error)
    })
  })
}

/**
 * Whether an open file is the one that was looked at: the same, or one with the same validators. One that was replaced in between would
 * be cut to the length of the old one, and kept by caches as that. One that is written in place is the same, as ever.
 */
async function isStill(fd: number, { ino, size, mtimeMs }: Stats, folder: string): Promise<boolean> {
  const opened = await statOf(fd)
  if (!opened.isFile() || (opened.ino !== ino && (opened.size !== size || opened.mtimeMs !== mtimeMs))) return false
  let place: string
  try {
    place = await readlink(`/proc/self/fd/${fd}`)
  } catch {
    return true // Only Linux says where an open file is.
  }
  // Letters are as on the disk, which need not tell small ones from capitals.
  return isWithin(folder.toLowerCase(), place.toLowerCase())
}

/** Between two looks at it a file may go, or may not be read. */
function isGone(thrown: unknown): boolean {
  const { code } = thrown as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES' || code === 'ELOOP'
}

function conditionsOf({ request }: Session): Conditions {
  const conditions: Conditions = Object.create(null)
  for (const name of CONDITIONS) {
    const values = request.headers.getAll(name)
    if (values.length > 0) conditions[name] = values.join(', ')
  }
  // Only GET has ranges (RFC 9110 14.2).
  if (request.method !== 'GET') delete conditions.range
  if (conditions['if-match'] !== undefined) {
    delete conditions['if-unmodified-since']
    // The library would compare them as weak ones.
    if (conditions['if-match'] !== '*') conditions['if-match'] = NO_ETAG
  }
  for (const name of ['if-modified-since', 'if-unmodified-since'] as const) {
    const text = conditions[name]
    if (text === undefined) continue
    const at = parseHttpDate(text, Date.now())
    if (Number.isNaN(at)) delete conditions[name]
    else conditions[name] = new Date(at).toUTCString()
  }
  return conditions
}

/** One range: from the first to the last byte, or to the end; or so many before the end. */
const ONE_RANGE = /^[ \t]*bytes=[ \t]*(?:(\d{1,15})-(\d{0,15})|-(\d{1,15}))[ \t]*$/i

/** Leaves the one range that is to be answered, in the form that the library reads, or none. */
function settleRange(headers: Conditions, { size, mtimeMs }: Stats): void {
  const { range = '', 'if-range': ifRange } = headers
  delete headers.range
  delete headers['if-range']
  // What is no date is an ETag, and ours are weak.
  if (ifRange !== undefined && parseHttpDate(ifRange, Date.now()) !== Math.floor(mtimeMs / 1000) * 1000) return
  const parts = ONE_RANGE.exec(range)
  if (parts === null) return
  const [, first = '', last = '', suffix = ''] = parts
  if (suffix !== '') headers.range = `bytes=${Number(suffix) === 0 ? size : Math.max(0, size - Number(suffix))}-`
  else if (last === '' || Number(first) <= Number(last)) headers.range = `bytes=${first}-${last}`
}

function fieldsOf(headers: Readonly<Record<string, string | number>>, status: number, { mtimeMs }: Stats): HeaderMap {
  const fields = new HeaderMap()
  for (const [name, value] of Object.entries(headers)) fields.set(name, String(value))
  // A browser that guesses could find a script in a picture.
  fields.set('X-Content-Type-Options', 'nosniff')
  // No answer is older than what is in it (RFC 9110 8.8.2.1), though a file may have come from a machine whose clock is ahead.
  if (mtimeMs > Date.now()) fields.set('Last-Modified', new Date().toUTCString())
  if (status !== 304 && !fields.has('content-type')) fields.set('Content-Type', 'application/octet-stream')
  return fields
}

/** Links in a page are relative to its path. Null: the path is none that a browser would read as one of this host. */
function toFolder(session: Session): Verdict | null {
  const { path: asked, query } = session.request
  if (!/^\/(?![/\\])/.test(asked)) return null
  return session.respond(301, { Location: `${asked}/${query === '' ? '' : `?${query}`}` })
}
