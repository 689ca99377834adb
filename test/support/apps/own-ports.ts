/**
 * The plain service, beside ports that the application opens itself. What came of each is written to $OWN_REPORT as JSON; with
 * $OWN_UNHEARD there is one alone, whose error nothing hears.
 */
import dgram from 'node:dgram'
import { once, type EventEmitter } from 'node:events'
import fs from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { Server } from '../../../src/server/server.ts'
import { PlainService } from '../plain-service.ts'

const report = process.env['OWN_REPORT']!, folder = process.env['OWN_FOLDER']!

const WAYS: Readonly<Record<string, () => EventEmitter>> = {
  port: () => net.createServer().listen(6189),
  host: () => http.createServer().listen({ host: '127.0.0.1', port: 6189, exclusive: false }),
  ipv6: () => net.createServer().listen(6189, '::1'),
  path: () => net.createServer().listen(`${folder}/shared.sock`),
  descriptor: () => net.createServer().listen({ fd: 4 }),
  udp: () => dgram.createSocket('udp4').bind(6189, '127.0.0.1'),
  reusePort: () => http.createServer().listen({ port: 0, host: '127.0.0.1', reusePort: true }),
  'udp with reusePort': () => dgram.createSocket({ type: 'udp4', reusePort: true }).bind(0, '127.0.0.1'),
  'path of its own': () => net.createServer().listen({ path: `${folder}/own.sock`, exclusive: true }),
}

async function open(way: () => EventEmitter): Promise<string> {
  const opened = way()
  try {
    await once(opened, 'listening')
    return 'listens'
  } catch (error) {
    const { message, stack } = error as Error
    return `${message} | ${/own-ports\.ts:\d+/.exec(stack ?? '')?.[0] ?? 'nowhere'}`
  }
}

const server = new Server()
server.addService({
  kind: 'background',
  name: 'own ports',
  async start() {
    if (process.env['OWN_UNHEARD'] !== undefined) net.createServer().listen(6189)
    const outcomes = await Promise.all(Object.entries(WAYS).map(async ([name, way]) => [name, await open(way)]))
    fs.writeFileSync(report, JSON.stringify(Object.fromEntries(outcomes)))
  },
})
server.addService(new PlainService('plain', '127.0.0.1:1001'))
await server.runForever()
