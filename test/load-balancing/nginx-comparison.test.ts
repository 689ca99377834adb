/**
 * The promise to be like nginx, held against nginx itself: it is asked which upstream it chose, and which it went to
 * next, for the same backends and the same keys. Its upstreams refuse every connection, so each answer lists all it tried.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Backend } from '../../src/load-balancing/backend.ts'
import { LoadBalancer } from '../../src/load-balancing/load-balancer.ts'
import { requireProgram } from '../support/programs.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

/** Loopback addresses at the discard port, where nothing listens, and sockets that do not exist. */
const RING = [
  '127.0.0.11:9', '127.0.0.12:9 weight=3', '[::1]:9', 'unix:/nonexistent/origin.sock weight=2', 'unix:/nonexistent/b',
  '127.0.0.13:9',
]
const SEQUENCES = [
  ['127.0.0.21:9 weight=5', '127.0.0.22:9', '127.0.0.23:9'],
  ['127.0.0.21:9', '127.0.0.22:9', '127.0.0.23:9'],
  ['127.0.0.21:9 weight=4', '127.0.0.22:9 weight=6', '127.0.0.23:9 weight=10', '127.0.0.24:9 weight=6', '127.0.0.25:9 weight=7'],
]

function upstream(name: string, method: string, backends: readonly string[]): string {
  return `upstream ${name} { ${method} ${backends.map(backend => `server ${backend} max_fails=0;`).join(' ')} }`
}

/** A running nginx; resolves a path to the addresses that it tried, in order. */
async function startNginx(t: TestContext, program: string): Promise<(target: string) => Promise<string[]>> {
  const folder = temporaryFolder(t)
  const socketPath = path.join(folder, 'front.sock')
  const upstreams = [upstream('ring', 'hash $arg_k consistent;', RING)]
  for (const [index, backends] of SEQUENCES.entries()) {
    upstreams.push(upstream(`wrr${index}`, '', backends), upstream(`least${index}`, 'least_conn;', backends))
  }
  const names = ['ring', ...SEQUENCES.flatMap((_, index) => [`wrr${index}`, `least${index}`])]
  const locations = names.map(name => `location /${name} {
    proxy_pass http://${name}; proxy_next_upstream ${name === 'ring' ? 'error' : 'off'};
    add_header X-Tried $upstream_addr always;
  }`)
  const temporaries = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(name => `${name}_temp_path ${folder}/${name};`)
  writeFileSync(path.join(folder, 'nginx.conf'), `
    daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log crit;
    events { worker_connections 64; }
    http {
      access_log off; ${temporaries.join(' ')} ${upstreams.join('\n')}
      server { listen unix:${socketPath}; ${locations.join('\n')} }
    }`)
  const child = spawn(
    program,
    ['-p', folder, '-e', path.join(folder, 'error.log'), '-c', path.join(folder, 'nginx.conf')],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  )
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  t.after(async () => {
    agent.destroy()
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGTERM')
    await once(child, 'exit')
  })
  const ask = async (target: string): Promise<string[]> => {
    const request = http.get({ socketPath, path: target, agent })
    const [response] = await once(request, 'response') as [http.IncomingMessage]
    response.resume()
    await once(response, 'end')
    return String(response.headers['x-tried']).split(', ')
  }
  await waitFor('nginx to answer', () => ask('/wrr-is-no-location').then(() => true, () => false))
  return ask
}

/** All backends in the order in which a request would try them. */
function triedBy(balancer: LoadBalancer, key: string): string[] {
  const tried: Backend[] = []
  for (;;) {
    const backend = balancer.trySelect(key, { exclude: tried })
    if (backend === null) return tried.map(one => one.name)
    backend.release()
    tried.push(backend)
  }
}

test('nginx comparison: ketama, smooth round robin and least in flight choose what nginx chooses', { timeout: 60_000 }, async t => {
  const program = requireProgram(t, 'nginx')
  if (program === null) return
  const ask = await startNginx(t, program)

  await t.test('the consistent ring: the owner of each of 400 keys, and whom a request goes to next', async () => {
    const balancer = LoadBalancer.from(RING, { selection: 'ketama' })
    const owners = new Map<string, number>()
    let equalToTheEnd = 0
    for (let i = 0; i < 400; i++) {
      const key = i % 2 === 0 ? `/images/${i}.png` : `${'long-'.repeat(i % 40)}${i}`
      const tried = await ask(`/ring?k=${key}`)
      const ours = triedBy(balancer, key)
      owners.set(ours[0]!, (owners.get(ours[0]!) ?? 0) + 1)
      // From the 21st step on the ring nginx goes over to round robin, so the last ones may differ.
      assert.deepEqual(tried.slice(0, 3), ours.slice(0, 3), `the order for ${key}`)
      if (tried.join() === ours.join()) equalToTheEnd++
    }
    assert.equal(owners.size, RING.length, `every backend owns some of the keys: ${JSON.stringify([...owners])}`)
    assert.ok(equalToTheEnd > 200, `${equalToTheEnd} of 400 orders are equal to the end`)
    t.diagnostic(`${equalToTheEnd} of 400 orders are equal to the end`)
  })

  for (const [index, backends] of SEQUENCES.entries()) {
    for (const [location, selection] of [['wrr', 'round-robin'], ['least', 'least-in-flight']] as const) {
      await t.test(`the sequence of ${selection} over ${backends.join(', ')}`, async () => {
        const balancer = LoadBalancer.from(backends, { selection, random: () => 0 })
        for (let i = 0; i < 70; i++) {
          const ours = balancer.select()
          ours.report(true)
          assert.deepEqual(await ask(`/${location}${index}`), [ours.name], `choice ${i}`)
        }
      })
    }
  }
})
