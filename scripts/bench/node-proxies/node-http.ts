/** The proxy that one writes with `node:http` alone: a keep-alive Agent, hop-by-hop fields dropped, the forwarded fields set. */
import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { MAX_IDLE_UPSTREAM, listen, originPort } from './ports.ts'

const agent = new http.Agent({ keepAlive: true, maxFreeSockets: MAX_IDLE_UPSTREAM })

const server = http.createServer((request, response) => {
  const headers: http.OutgoingHttpHeaders = { ...request.headers }
  delete headers['connection']
  delete headers['keep-alive']
  headers['x-forwarded-for'] = request.socket.remoteAddress
  headers['x-forwarded-proto'] = 'http'
  headers['x-forwarded-host'] = request.headers.host
  headers['x-request-id'] = randomUUID()
  headers['via'] = '1.1 node'
  const { method, url } = request
  const outgoing = http.request({ agent, host: '127.0.0.1', port: originPort, method, path: url, headers }, (answer) => {
    const fields: http.OutgoingHttpHeaders = { ...answer.headers, via: '1.1 node' }
    delete fields['connection']
    delete fields['keep-alive']
    response.writeHead(answer.statusCode ?? 502, fields)
    answer.pipe(response)
  })
  response.on('close', () => {
    if (!response.writableFinished) outgoing.destroy() // The client left; `pipe` alone would let the rest of the answer wait for ever.
  })
  outgoing.on('error', () => {
    if (response.headersSent) response.destroy()
    else response.writeHead(502).end()
  })
  if (request.headers['content-length'] === undefined && request.headers['transfer-encoding'] === undefined) outgoing.end()
  else request.pipe(outgoing)
})

listen(server)
