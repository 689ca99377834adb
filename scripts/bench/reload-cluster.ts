/**
 * A node:cluster of two proxies made of `node:http`, reloaded the way process managers for Node.js do it by default: on
 * SIGUSR2, one worker after another, a new one is started, and when it listens the old one calls `http.Server.close()`;
 * what is left 1600 ms later is killed (pm2: kill_timeout).
 */
import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import http from 'node:http'
import { MAX_IDLE_UPSTREAM, listenPort, originPort } from './node-proxies/ports.ts'

const WORKERS = 2
const KILL_TIMEOUT_MS = 1600

if (cluster.isPrimary) lead()
else serve()

function lead(): void {
  let workers: Worker[] = Array.from({ length: WORKERS }, () => cluster.fork())
  let reloading = Promise.resolve()
  process.on('SIGUSR2', () => { reloading = reloading.then(reload) })

  async function reload(): Promise<void> {
    for (const old of workers) {
      const fresh = cluster.fork()
      await once(fresh, 'listening')
      workers = [...workers.filter(worker => worker !== old), fresh]
      old.send('shutdown')
      const timer = setTimeout(() => old.process.kill('SIGKILL'), KILL_TIMEOUT_MS)
      old.once('exit', () => clearTimeout(timer))
    }
  }
}

function serve(): void {
  const agent = new http.Agent({ keepAlive: true, maxFreeSockets: MAX_IDLE_UPSTREAM })
  const toOrigin = ({ method, url, headers }: http.IncomingMessage): http.RequestOptions =>
    ({ agent, host: '127.0.0.1', port: originPort, method, path: url, headers })
  const server = http.createServer((request, response) => {
    const outgoing = http.request(toOrigin(request), answer => {
      const fields = { ...answer.headers }
      delete fields['connection']
      delete fields['keep-alive']
      response.writeHead(answer.statusCode ?? 502, fields)
      answer.pipe(response)
    })
    response.on('close', () => { if (!response.writableFinished) outgoing.destroy() })
    outgoing.on('error', () => { if (response.headersSent) response.destroy(); else response.writeHead(502).end() })
    request.pipe(outgoing)
  })
  server.on('upgrade', (request, socket, head) => {
    const outgoing = http.request({ ...toOrigin(request), agent: false })
    socket.on('error', () => outgoing.destroy())
    outgoing.on('error', () => socket.destroy())
    outgoing.on('upgrade', (answer, upstream, rest) => {
      upstream.on('error', () => socket.destroy())
      const fields = answer.rawHeaders.map((part, index) => part + (index % 2 === 0 ? ': ' : '\r\n')).join('')
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${fields}\r\n`)
      socket.write(rest)
      upstream.write(head)
      upstream.pipe(socket).pipe(upstream)
    })
    outgoing.end()
  })
  server.listen(listenPort, '127.0.0.1')
  process.on('message', message => {
    if (message !== 'shutdown') return
    server.close(() => process.exit(0))
  })
}
