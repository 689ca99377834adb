/** http-proxy-3 with a keep-alive agent (without one it dials for every request) and its forwarded fields on. */
import http from 'node:http'
import httpProxy from 'http-proxy-3'
import { MAX_IDLE_UPSTREAM, listen, originPort } from './ports.ts'

const agent = new http.Agent({ keepAlive: true, maxFreeSockets: MAX_IDLE_UPSTREAM })
const proxy = httpProxy.createProxyServer({ target: `http://127.0.0.1:${originPort}`, agent, xfwd: true })
proxy.on('error', (_error, _request, response) => response.destroy())

listen(http.createServer((request, response) => proxy.web(request, response)))
