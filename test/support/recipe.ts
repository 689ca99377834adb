/**
 * A recipe of examples/ as it lies there: its file is imported as a worker imports it, with the environment that it reads, and the
 * server that it hands to `runForever()` listens in this process, on a free port.
 */
import assert from 'node:assert/strict'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type { TestContext } from 'node:test'
import { SILENT_LOG, type Server, type StartContext } from '../../src/index.ts'
import { DRAIN_DEFAULTS } from '../../src/config/supervisor-options.ts'
import { drainOrder } from '../../src/ipc/drain-times.ts'
import { claimRunHost } from '../../src/server/run-host.ts'
import { RawClient, type RawResponse, type ReadOptions } from './raw-client.ts'
import { ScriptedOrigin, type Script } from './scripted-origin.ts'
import { waitFor, within } from './wait-for.ts'

const EXAMPLES = path.join(import.meta.dirname, '../../examples')
/** Files imported so far: each is read anew, as its addresses are worked out when it is loaded. */
let imported = 0

export class Recipe {
  readonly server: Server
  readonly #port: number
  readonly #clients: RawClient[] = []

  constructor(server: Server, port: number) {
    this.server = server
    this.#port = port
  }

  get authority(): string { return `127.0.0.1:${this.#port}` }

  /** @param from another address of the loopback network, for another client; Linux has all of 127.0.0.0/8 */
  async connect(from = '127.0.0.1'): Promise<RawClient> {
    const client = await RawClient.connect({ host: '127.0.0.1', port: this.#port, localAddress: from })
    this.#clients.push(client)
    return client
  }

  /** One request on a connection of its own, which is closed afterwards. */
  async exchange(bytes: string | Buffer, options?: ReadOptions): Promise<RawResponse> {
    const client = await this.connect()
    try {
      await client.write(bytes)
      return await client.readResponse(options)
    } finally { client.destroy() }
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.destroy()
    const atRest = (): boolean => {
      const { connections, idleConnections, activeExchanges } = this.server.stats()
      return connections === idleConnections && activeExchanges === 0
    }
    await waitFor('the recipe to notice that its clients are gone', atRest, { seen: () => this.server.stats() })
    const { cut } = await this.server.stop({ ...drainOrder('stop', DRAIN_DEFAULTS, 0), hardDrainMs: 2000 })
    assert.equal(cut, 0, 'stopping had to cut exchanges')
  }
}

/**
 * Starts `examples/NAME.ts`; it ends with `t`.
 * @param env what the recipe reads; LISTEN is a free port
 * @param context what the process would give it, such as an access log
 */
export async function startRecipe(
  t: TestContext, name: string, env: Readonly<Record<string, string>>, context: StartContext = {},
): Promise<Recipe> {
  const server = await loadRecipe(name, { LISTEN: '127.0.0.1:0', ...env })
  // Other work on this machine may hold up the loop; what that does to requests has tests of its own.
  server.limits({ maxLoopDelayMs: 0 })
  const [bound] = await server.start({ log: SILENT_LOG, ...context })
  const recipe = new Recipe(server, bound!.port)
  t.after(() => recipe.stop())
  return recipe
}

async function loadRecipe(name: string, env: Readonly<Record<string, string>>): Promise<Server> {
  const { promise, resolve, reject } = Promise.withResolvers<Server>()
  claimRunHost({
    run(server) {
      resolve(server)
      return new Promise<never>(() => { /* As in a worker. */ })
    },
  })
  const before = Object.keys(env).map(variable => [variable, process.env[variable]] as const)
  Object.assign(process.env, env)
  try {
    // Settles only when the file fails: it ends with `await server.runForever()`.
    import(`${pathToFileURL(path.join(EXAMPLES, `${name}.ts`)).href}?${++imported}`).then(
      () => reject(new Error(`examples/${name}.ts ended without server.runForever()`)), reject,
    )
    return await within(`examples/${name}.ts to run`, promise)
  } finally {
    for (const [variable, value] of before) {
      if (value === undefined) delete process.env[variable]
      else process.env[variable] = value
    }
  }
}

/** An origin that ends with `t`. */
export async function startOrigin(t: TestContext, script?: Script): Promise<ScriptedOrigin> {
  const origin = await ScriptedOrigin.start(script)
  t.after(() => origin.stop())
  return origin
}
