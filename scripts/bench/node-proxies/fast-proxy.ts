/** fast-proxy in its fastest documented setting that streams bodies both ways: its own keep-alive agent. */
import http from 'node:http'
import fastProxy from 'fast-proxy'
import { KEEP_ALIVE_MS, listen, originPort } from './ports.ts'

const { proxy } = fastProxy({ base: `http://127.0.0.1:${originPort}`, keepAliveMsecs: KEEP_ALIVE_MS })

listen(http.createServer((request, response) => proxy(request, response, request.url ?? '/', {})))
