/** Node.js' own https. Called with what to do, the URL's port and the file of the authority; exit 0 when all was answered well. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import https from 'node:https'
import type { TLSSocket } from 'node:tls'

const [what = '', port = '', caFile = ''] = process.argv.slice(2)
const kept = new https.Agent({ keepAlive: true, maxSockets: 1 })
const closing = new https.Agent({ maxSockets: 1 })

function ask(agent: https.Agent, path = '/', body = ''): Promise<void> {
  return new Promise((resolve, reject) => {
    const method = body === '' ? 'GET' : 'POST'
    const request = https.request({ host: 'localhost', port, path, method, agent, ca: readFileSync(caFile) }, response => {
      let text = ''
      const group = (response.socket as TLSSocket).getEphemeralKeyInfo() as { name?: string }
      const isResumed = (response.socket as TLSSocket).isSessionReused()
      response.setEncoding('utf8').on('data', chunk => { text += String(chunk) }).on('end', () => {
        try {
          assert.equal(response.statusCode, 200)
          if (body !== '') assert.equal(text, body)
          if (!isResumed) assert.equal(group.name, 'X25519MLKEM768')
          resolve()
        } catch (error) { reject(error as Error) }
      })
    })
    request.on('error', reject)
    request.end(body)
  })
}

switch (what) {
  case 'get': await ask(closing); break
  case 'post': await ask(closing, '/echo', 'cirque '.repeat(20_000)); break
  case 'keep-alive': for (let count = 0; count < 5; count++) await ask(kept); break
  default:
    await ask(closing)
    await ask(closing)
}
kept.destroy()
