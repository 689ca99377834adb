/** The plain service on the addresses of $PLAIN_LISTEN (space between, default one free port). */
import { Server } from '../../../src/server/server.ts'
import { PlainService } from '../plain-service.ts'

console.log('{"ok":false} the application may print what it likes')
const server = new Server()
server.addService(new PlainService('plain', ...(process.env['PLAIN_LISTEN'] ?? '127.0.0.1:0').split(' ')))
await server.runForever()
