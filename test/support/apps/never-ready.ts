/** Describes itself well and fails when it is really started. */
import { Server } from '../../../src/server/server.ts'
import { PlainService } from '../plain-service.ts'

const server = new Server()
const database = server.addService({ kind: 'background', name: 'database', start: () => { throw new Error('the database is away') } })
server.addService(new PlainService('plain', '127.0.0.1:0')).dependsOn(database)
await server.runForever()
