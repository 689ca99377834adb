/** What the page about containers says to Kubernetes fits what Cirque does: times, probes, ports, the places that are written to. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import path from 'node:path'
import { test } from 'node:test'
import { parseAllDocuments } from 'yaml'
import { loadConfig } from '../../src/config/load-config.ts'
import { AdminServer, type Health } from '../../supervisor/admin-server.ts'
import { pageBlocks } from '../support/page-blocks.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

interface Probe { readonly httpGet: { readonly path: string; readonly port: string } }
interface Container {
  readonly args: readonly string[]
  readonly env: readonly { readonly name: string; readonly value: string }[]
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[]
  readonly startupProbe: Probe
  readonly readinessProbe: Probe
  readonly livenessProbe: Probe
  readonly securityContext: { readonly readOnlyRootFilesystem: boolean }
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[]
}
interface Pod {
  readonly terminationGracePeriodSeconds: number
  readonly containers: readonly [Container]
  readonly volumes: readonly { readonly name: string; readonly emptyDir?: object }[]
}

/** For processes to end, and their ends to be seen. */
const MARGIN_MS = 5_000

const [block] = pageBlocks(path.join(import.meta.dirname, '../..'), 'docs/containers.md').filter(({ language }) => language === 'yaml')
const documents = parseAllDocuments(block!.text).map(document => document.toJS() as { kind: string; data?: object; spec?: object })
const { spec: { template: { spec: pod } } } = documents.find(({ kind }) => kind === 'Deployment') as { spec: { template: { spec: Pod } } }
const [container] = pod.containers
const { 'cirque.yaml': configured } = documents.find(({ kind }) => kind === 'ConfigMap')!.data as { 'cirque.yaml': string }

test('containers page: a pod is given more time than a stop takes', t => {
  const folder = temporaryFolder(t)
  writeTree(folder, { 'cirque.yaml': configured })
  const { drain } = loadConfig({ folder, env: {} }).supervisor
  assert.ok(drain.lameDuckMs > 0)
  assert.ok(pod.terminationGracePeriodSeconds * 1000 >= drain.lameDuckMs + drain.stopTimeoutMs + MARGIN_MS)
})

test('containers page: probes ask where the supervisor answers, and what it answers', async t => {
  const folder = temporaryFolder(t)
  writeTree(folder, { 'cirque.yaml': configured })
  const { adminAddress } = loadConfig({ folder, env: {} }).supervisor
  const portOf = (name: string): number => container.ports.find(port => port.name === name)!.containerPort
  assert.equal(adminAddress, `0.0.0.0:${portOf('admin')}`)
  assert.equal(container.env.find(({ name }) => name === 'LISTEN')?.value, `0.0.0.0:${portOf('http')}`)
  let ready = true
  const health = (): Health => ({ ready, started: ready, reason: 'stopping' })
  const admin = new AdminServer({ health, metrics: () => Promise.reject(new Error('none')), sample: () => { throw new Error('none') } })
  t.after(() => admin.close())
  const address = await admin.listen('127.0.0.1:0', null)
  const statusOf = async ({ httpGet }: Probe): Promise<number | undefined> => {
    assert.equal(httpGet.port, 'admin')
    const [response] = await once(http.get(`http://${address}${httpGet.path}`, { agent: false }), 'response') as [http.IncomingMessage]
    response.resume()
    return response.statusCode
  }
  const { startupProbe, readinessProbe, livenessProbe } = container
  const all = (): Promise<(number | undefined)[]> => Promise.all([startupProbe, readinessProbe, livenessProbe].map(statusOf))
  assert.deepEqual(await all(), [200, 200, 200])
  ready = false
  assert.deepEqual(await all(), [503, 503, 200])
})

test('containers page: with a root that cannot be written to there is a place for the state folder, and for the configuration', () => {
  assert.equal(container.securityContext.readOnlyRootFilesystem, true)
  const mounted = (place: string): string | undefined => container.volumeMounts.find(({ mountPath }) => mountPath === place)?.name
  assert.ok(pod.volumes.find(({ name }) => name === mounted('/tmp'))?.emptyDir !== undefined)
  assert.notEqual(mounted(path.posix.dirname(container.args[container.args.indexOf('--config') + 1]!)), undefined)
})
