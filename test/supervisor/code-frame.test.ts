import assert from 'node:assert/strict'
import test from 'node:test'
import { codeFrame } from '../../supervisor/code-frame.ts'

const SOURCE = ['import x from \'x\'', '', 'const port = 1', '\tthrow new Error(\'no\')\x1B', 'last()', 'unseen()'].join('\n')
const read = (file: string): string => {
  if (!file.startsWith('/app/')) throw new Error(`${file} is not there`)
  return SOURCE
}

test('code frame: the place of the application is shown, not that of Node.js, a package or ours', () => {
  const stack = [
    'Error: no',
    '    at node:internal/x:1:1',
    '    at check (/app/node_modules/p/index.js:3:1)',
    `    at Server.addService (${new URL('../../src/server/server.ts', import.meta.url).href}:1:1)`,
    '    at async start (file:///app/my%20app.ts:4:8)',
    '    at /app/other.ts:1:1',
  ].join('\n')
  const [place, ...lines] = codeFrame(stack, file => file === '/app/my app.ts' ? SOURCE : read('/x')).split('\n')
  assert.match(place!, /my app\.ts:4:8$/)
  assert.deepEqual(lines, [
    '  2 |',
    '  3 | const port = 1',
    '> 4 |  throw new Error(\'no\')',
    '    |        ^',
    '  5 | last()',
  ])
})

test('code frame: there is none where Node.js shows the line already, or where there is no such line', () => {
  assert.equal(codeFrame('file:///app/a.ts:2\nconst = 1\n      ^\n\nSyntaxError: no\n    at load (/app/a.ts:1:1)', read), '')
  assert.equal(codeFrame('/app/a.js:2\nconst = 1\n      ^\n\nSyntaxError: no', read), '')
  const frames = ['', '    at /gone.ts:1:1', '    at /app/a.ts:99:1', '    at file://%:1:1', '    at eval (eval at <anonymous> (x:1:1))']
  for (const frame of frames) assert.equal(codeFrame(`Error: no\n${frame}`, read), '', frame)
  assert.equal(codeFrame('', read), '')
})
