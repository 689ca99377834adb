import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OptionError, Server, SILENT_LOG, httpsRedirect, type HttpsRedirectOptions } from '../../src/index.ts'
import { RawClient } from '../support/raw-client.ts'

async function ask(options: HttpsRedirectOptions, head: string): Promise<[status: number, location: string | null]> {
  const server = new Server()
  server.addService(httpsRedirect(options).addTcp('127.0.0.1:0'))
  const [bound] = await server.start({ log: SILENT_LOG, accessLog: null })
  const client = await RawClient.connect({ host: '127.0.0.1', port: bound!.port })
  try {
    await client.write(`${head}\r\n\r\n`)
    const response = await client.readResponse()
    return [response.status, response.field('location')]
  } finally {
    client.destroy()
    await server.stop()
  }
}

test('https redirect: the same host and target, over https, with method and body kept', async () => {
  assert.deepEqual(await ask({}, 'GET /a?b=1 HTTP/1.1\r\nHost: A.test:8080'), [308, 'https://a.test/a?b=1'])
  assert.deepEqual(await ask({ port: 8443 }, 'POST / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 0'), [308, 'https://[::1]:8443/'])
  assert.deepEqual(await ask({ status: 301 }, 'GET http://b.test/x HTTP/1.1\r\nHost: a.test'), [301, 'https://b.test/x'])
})

test('https redirect: nothing leads to a host that is not among those that were named, and what has no place is refused', async () => {
  assert.deepEqual(await ask({ hosts: ['A.test'] }, 'GET / HTTP/1.1\r\nHost: evil.test'), [421, null])
  assert.deepEqual(await ask({ hosts: ['A.test'] }, 'GET / HTTP/1.1\r\nHost: a.test'), [308, 'https://a.test/'])
  assert.deepEqual(await ask({}, 'OPTIONS * HTTP/1.1\r\nHost: a.test'), [400, null])
  assert.deepEqual(await ask({}, 'GET / HTTP/1.0'), [400, null])
  assert.throws(() => httpsRedirect({ hosts: ['a.test:80'], port: 0 }), OptionError)
})
