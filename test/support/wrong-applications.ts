/**
 * Wrong applications, loaded, started and asked in this process as the processes of a supervisor do it; what comes out is what a person
 * is told: the place, and the message behind it.
 */
import { registerHooks } from 'node:module'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { loadConfig } from '../../src/config/load-config.ts'
import { placeIn } from '../../src/errors/code-frame.ts'
import { describeError } from '../../src/errors/describe-error.ts'
import { describeLoadError } from '../../src/errors/load-error.ts'
import { inject, type InjectOrigin, type ProxyError, type ProxyHttp } from '../../src/index.ts'
import { SILENT_LOG, type LogFields } from '../../src/ipc/process-log.ts'
import { claimRunHost } from '../../src/server/run-host.ts'
import type { Server } from '../../src/server/server.ts'
import { checkListenerNames } from '../../supervisor/describe-application.ts'
import { ListenerTable } from '../../supervisor/listener-table.ts'
import { writeTree } from './temporary-folder.ts'

const INDEX = pathToFileURL(path.resolve(import.meta.dirname, '../../src/index.ts')).href
const NAMES = ['HttpHealthCheck', 'HttpPeer', 'LoadBalancer', 'Server', 'httpProxyService']
/** The first line of each application. */
export const IMPORTS = `import { ${NAMES.join(', ')} } from 'cirque'`

export interface WrongApplication {
  /** What follows IMPORTS in app.ts. */
  readonly app: string
  /** Besides app.ts, and a package.json that says "module". */
  readonly files?: Readonly<Record<string, string>>
}

/** Files that were read, the last one last. */
const loaded: string[] = []
registerHooks({
  resolve(specifier, context, next) {
    return specifier === 'cirque' ? { url: INDEX, shortCircuit: true, format: 'module-typescript' } : next(specifier, context)
  },
  load(url, context, next) {
    if (url.startsWith('file:')) loaded.push(fileURLToPath(url))
    return next(url, context)
  },
})

export class WrongFolder {
  readonly folder: string

  /** @param folder empty, and one's own: a module is loaded once */
  constructor(folder: string) { this.folder = folder }

  write({ app, files = {} }: WrongApplication): string {
    writeTree(this.folder, { 'package.json': '{\n  "type": "module"\n}\n', 'app.ts': `${IMPORTS}\n${app}\n`, ...files })
    return path.join(this.folder, 'app.ts')
  }

  /** As the description of an application. @returns its server, or what is said instead */
  async load(wrong: WrongApplication): Promise<Server | string> {
    const file = this.write(wrong)
    const handedOver = Promise.withResolvers<Server>()
    claimRunHost({
      run(server) {
        try {
          server.describe()
          handedOver.resolve(server)
        } catch (error) {
          handedOver.reject(error as Error)
        }
        return new Promise<never>(() => { /* As in a worker. */ })
      },
    })
    try {
      return await Promise.race([handedOver.promise, import(pathToFileURL(file).href).then(() => 'it ended')])
    } catch (error) {
      const { message, stack } = describeLoadError(error, loaded)
      return this.#said(message, stack)
    }
  }

  /** As a supervisor binds what was described, and a worker starts it. @returns what is said, '' when it starts */
  async start(server: Server): Promise<string> {
    const table = new ListenerTable(1, SILENT_LOG)
    try {
      await table.bind(server.describe().listeners)
    } catch (error) {
      // A port that is free, or was, is another one each time.
      return this.#said((error as Error).message, '').replace(/^127\.0\.0\.1:\d{5} /, '127.0.0.1:PORT ')
    } finally {
      table.close(null)
    }
    try {
      await server.prepare()
      return ''
    } catch (error) {
      const { message, stack } = describeError(error)
      return this.#said(message, stack)
    } finally {
      server.close()
    }
  }

  /** A request to the application that app.ts exports. @returns the status, the fault, and the lines of the log */
  async ask(wrong: WrongApplication, origin: InjectOrigin | null): Promise<{ readonly said: string; readonly log: readonly string[] }> {
    const { default: app } = await import(pathToFileURL(this.write(wrong)).href) as { default: ProxyHttp }
    const log: string[] = []
    const note = (message: string, { error, what, stack }: LogFields = {}): void => {
      log.push(`${message}: ${this.#said(String(error ?? what), String(stack ?? ''))}`)
    }
    const request = { method: 'POST', headers: { te: 'trailers' }, chunks: ['one', 'two'], trailers: { sum: '1' } }
    const options = { origin, log: { info: note, warn: note, error: note }, service: { hookTimeoutMs: 20 } }
    let status: string, errors: readonly ProxyError[]
    try {
      const answer = await inject(app, request, options)
      status = String(answer.status)
      errors = answer.errors
    } catch (error) {
      status = 'cut'
      errors = [error as ProxyError]
    }
    const said = errors.map(error => this.#said(error.message, describeError(error).stack))
    return { said: [status, ...said].join(' '), log }
  }

  /** As the configuration of a start, with listeners of these names. */
  configure(yaml: string, listeners: readonly string[]): string {
    writeTree(this.folder, { 'cirque.yaml': yaml })
    try {
      const config = loadConfig({ file: '', folder: this.folder, flags: {} })
      const address = { kind: 'unix', path: '', mode: 0 } as const
      const described = listeners.map(name => ({ name, service: '', canonical: '', backlog: 0, address }))
      checkListenerNames(config, { listeners: described })
      return ''
    } catch (error) {
      return (error as Error).message.replaceAll(`${this.folder}/`, '')
    }
  }

  #said(message: string, stack: string): string {
    const { folder } = this
    // Of this file are frames in the place of those of Cirque's own processes.
    const place = placeIn(stack.split('\n').filter(line => !line.includes(import.meta.filename)).join('\n'))
    const at = place === null ? '' : `${path.relative(folder, place.file)}:${place.line}:${place.column} `
    return at + message.replaceAll(`${folder}/`, '').replaceAll(folder, 'FOLDER')
  }
}
