/** Where the edge listens, and where its origin is. Cirque runs this file in every worker: `npm run dev`, `npm start`. */
import { Server, httpProxyService } from 'cirque'
import { Edge } from './edge.ts'

const listen = process.env['LISTEN'] ?? '127.0.0.1:8080'
const origin = process.env['ORIGIN'] ?? '127.0.0.1:3000'

const server = new Server()
server.addService(httpProxyService(new Edge(origin)).addTcp(listen))
await server.runForever()
