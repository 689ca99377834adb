/** Stands in for the application behind the edge while there is none: `npm run origin`. Remove it when you have one. */
import http from 'node:http'
import type { AddressInfo } from 'node:net'

const [host = '', port = ''] = (process.env['ORIGIN'] ?? '127.0.0.1:3000').split(':')

const server = http.createServer((request, response) => {
  response.end(`the origin has seen ${request.method} ${request.url}\n`)
})
server.listen(Number(port), host, () => {
  console.log(`the origin answers on ${host}:${(server.address() as AddressInfo).port}`)
})
