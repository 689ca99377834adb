/**
 * Random lives of a proxy service on streams in memory and a clock that stands still (support/exchange-world.ts): what
 * clients and origins are told must be what the other one sent, whoever stalls, leaves, lies or dies on the way.
 *
 *   CIRQUE_MODEL_RUNS=100000              how many lives; 8000, and 1200 in the quick set
 *   CIRQUE_MODEL_SEED=1                   the same lives again
 *   CIRQUE_MODEL_SIDES=h1-mux             clients with HTTP/1 and origins with the multiplexing protocol alone
 *   CIRQUE_MODEL_PATH=123:0:1             the one that failed alone, as the failure prints it
 */
import { test } from 'node:test'
import fc from 'fast-check'
import type { HalfClose } from '../../src/protocols/http-options.ts'
import { chance, type AnswerSpec, type RequestSpec } from '../support/exchange-sides.ts'
import { ExchangeWorld, HOOKS_OF_MODEL, type Step, type WorldOptions, type WorldSides } from '../support/exchange-world.ts'
import { H2_CLIENT, H2_ORIGIN } from '../support/h2-sides.ts'
import { HTTP1_CLIENT, HTTP1_ORIGIN } from '../support/http1-sides.ts'
import { MUX_CLIENT, MUX_ORIGIN } from '../support/mux/mux-sides.ts'

const RUNS = Number(process.env['CIRQUE_MODEL_RUNS'] ?? (process.env['CIRQUE_QUICK'] === undefined ? 8000 : 1200))
const SEED = process.env['CIRQUE_MODEL_SEED']
const PATH = process.env['CIRQUE_MODEL_PATH']
const ONLY = process.env['CIRQUE_MODEL_SIDES']

const small = fc.nat({ max: 5 })
const pieceBytes = fc.constantFrom(100_000, 1, 40, 200, 1000, 5000, 6000)
const bodyBytes = fc.constantFrom(0, 1, 100, 1000, 5000, 9000, 20_000)
const chunkBytes = fc.constantFrom(100_000, 10, 3000, 4500, 7000)
const rarely = fc.integer({ min: 0, max: 9 }).map(one => one === 9)

const requestSpec: fc.Arbitrary<RequestSpec> = fc.record({
  method: fc.constantFrom('GET', 'POST', 'PUT', 'HEAD', 'PUT', 'PUT'), framing: fc.constantFrom('none', 'length', 'chunked'),
  size: bodyBytes, chunk: chunkBytes, expect: rarely, upgrade: rarely,
  close: rarely, old: rarely, trailers: rarely, broken: rarely, flavor: fc.oneof(fc.constant(0), fc.nat({ max: 1_000_000 })),
}).map(({ method, framing: wanted, upgrade: upgrades, ...rest }) => {
  const framing = method === 'GET' || method === 'HEAD' ? 'none' : rest.old && wanted === 'chunked' ? 'length' : wanted
  const upgrade = upgrades && framing === 'none' && !rest.old && method === 'GET'
  const hasBody = framing === 'chunked' || (framing === 'length' && rest.size > 0)
  return {
    ...rest, method, framing, upgrade, expect: rest.expect && hasBody && !rest.old, broken: rest.broken && framing === 'chunked',
  } as const
})

const answerSpec: fc.Arbitrary<AnswerSpec> = fc.record({
  kind: fc.constantFrom('length', 'chunked', 'close', 'old', '204', '304', '503', '101', 'length', 'chunked', '101'), size: bodyBytes,
  chunk: chunkBytes, close: rarely, trailers: fc.boolean(), extra: fc.integer({ min: 0, max: 19 }).map(one => one === 19),
})

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ t: fc.constant('connect') }) },
  { weight: 8, arbitrary: fc.record({ t: fc.constant('request'), at: small, spec: requestSpec, send: pieceBytes }) },
  { weight: 8, arbitrary: fc.record({ t: fc.constant('flow'), bytes: pieceBytes }) },
  { weight: 4, arbitrary: fc.record({ t: fc.constant('serve'), spec: answerSpec }) },
  { weight: 6, arbitrary: fc.record({ t: fc.constant('dial'), at: small, accept: fc.integer({ min: 0, max: 4 }).map(one => one !== 4) }) },
  { weight: 8, arbitrary: fc.record({ t: fc.constant('answer'), at: small, spec: answerSpec, send: pieceBytes }) },
  {
    weight: 5,
    arbitrary: fc.record({ t: fc.constantFrom('clientSend', 'clientRead', 'originSend', 'originRead'), at: small, bytes: pieceBytes }),
  },
  { weight: 4, arbitrary: fc.record({ t: fc.constant('settle'), at: small, ok: fc.integer({ min: 0, max: 4 }).map(one => one !== 4) }) },
  { weight: 3, arbitrary: fc.record({ t: fc.constant('pass'), ms: fc.constantFrom(1, 30, 100, 400, 1200, 5200, 10_000) }) },
  { weight: 2, arbitrary: fc.record({ t: fc.constantFrom('clientTunnel', 'originTunnel'), at: small }) },
  {
    weight: 3,
    arbitrary: fc.record({ t: fc.constantFrom('clientFin', 'clientReset', 'originFin', 'originReset', 'originReset'), at: small }),
  },
  { weight: 1, arbitrary: fc.record({ t: fc.constantFrom('clientGarbage', 'originGarbage'), at: small }) },
  { weight: 1, arbitrary: fc.record({ t: fc.constant('interim'), at: small, status: fc.constantFrom(100, 103) }) },
  { weight: 2, arbitrary: fc.record({ t: fc.constant('clientDisturbs'), at: small, how: fc.constantFrom('reset', 'stall') }) },
  {
    weight: 2,
    arbitrary: fc.record({
      t: fc.constant('originDisturbs'), at: small, how: fc.constantFrom('reset', 'stall', 'reset', 'goAway', 'limit'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ t: fc.constant('drain'), mode: fc.constantFrom('retire', 'stop') }) },
) as fc.Arbitrary<Step>

const options: fc.Arbitrary<WorldOptions> = fc.record({
  hooks: fc.oneof(
    fc.constant([]), fc.subarray([...HOOKS_OF_MODEL]), fc.subarray(['requestBodyFilter', 'responseBodyFilter', 'responseFilter'] as const),
    fc.subarray(['requestBodyFilter', 'responseBodyFilter', 'slowPeer'] as const)
      .map(more => ['upstreamResponseFilter', 'retries', ...more] as const),
  ),
  keepsLength: fc.boolean(),
  clientKernelBytes: fc.constantFrom(Infinity, 60, 2000, 6000),
  originKernelBytes: fc.constantFrom(Infinity, 60, 2000, 6000),
  maxReplayBytes: fc.constantFrom(65_536, 500, 0, 500),
  maxRequestBodyBytes: fc.constantFrom(0, 8000),
  maxConnectionsPerPeer: fc.constantFrom(0, 1, 2),
  idleTimeoutMs: fc.constantFrom(3000, 0, 100_000),
  maxRequestsPerConnection: fc.constantFrom(0, 2),
  maxActiveRequests: fc.constantFrom(0, 3),
  exchangesPerConnection: fc.constantFrom(8, 1, 2),
  halfClose: fc.constantFrom<HalfClose[]>('abort', 'keep'),
  chance: fc.nat({ max: 1000 }),
})

async function live(world: ExchangeWorld, steps: readonly Step[], end: 'close' | 'retire' | 'stop', cooperates: boolean): Promise<void> {
  await world.step({ t: 'connect' })
  for (const one of steps) await world.step(one)
  if (cooperates) await world.cooperate()
  await world.end(end)
}

/** `client` speaks with the proxy, and the proxy with the origin, in these protocols. */
const SIDES: readonly { readonly sides: WorldSides; readonly share: number }[] = [
  { sides: { client: HTTP1_CLIENT, origin: HTTP1_ORIGIN }, share: 1 },
  { sides: { client: HTTP1_CLIENT, origin: MUX_ORIGIN }, share: 0.4 },
  { sides: { client: MUX_CLIENT, origin: HTTP1_ORIGIN }, share: 0.4 },
  { sides: { client: MUX_CLIENT, origin: MUX_ORIGIN }, share: 0.4 },
  { sides: { client: HTTP1_CLIENT, origin: H2_ORIGIN }, share: 0.15 },
  { sides: { client: H2_CLIENT, origin: HTTP1_ORIGIN }, share: 0.15 },
  { sides: { client: H2_CLIENT, origin: H2_ORIGIN }, share: 0.15 },
]

const lives = fc.array(step, { minLength: 1, maxLength: 80, size: 'max' })
const ends = fc.constantFrom<('close' | 'retire' | 'stop')[]>('close', 'retire', 'stop')

for (const { sides, share } of SIDES) {
  const { client, origin } = sides
  const title = `exchange model, ${client.name} to ${origin.name}: whatever clients, origins and filters do, ` +
    'messages stay whole, apart and in order, and nothing is left open'
  test(title, { skip: ONLY !== undefined && ONLY !== `${client.name}-${origin.name}` }, async () => {
    const property = fc.asyncProperty(options, lives, ends, fc.integer({ min: 0, max: 4 }), async (given, steps, end, cooperates) => {
      const random = Math.random, thrown: unknown[] = []
      Math.random = chance(given.chance)
      process.setUncaughtExceptionCaptureCallback(error => thrown.push(error))
      try {
        await live(new ExchangeWorld(given, sides), steps, end, cooperates !== 0)
        if (thrown.length > 0) throw thrown[0]
      } catch (error) {
        throw thrown.length > 0 ? thrown[0] : error
      } finally {
        process.setUncaughtExceptionCaptureCallback(null)
        Math.random = random
      }
    })
    await fc.assert(property, {
      numRuns: Math.ceil(RUNS * share), interruptAfterTimeLimit: 600_000,
      ...(SEED === undefined ? {} : { seed: Number(SEED) }), ...(PATH === undefined ? {} : { path: PATH }),
    })
  })
}
