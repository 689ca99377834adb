import assert from 'node:assert/strict'
import test from 'node:test'
import { codeFrame, errorDetail, errorText, placeIn } from '../../src/errors/code-frame.ts'

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

test('code frame: where Node.js could not go on reading, its own mark is the place', () => {
  const stack = [
    'file:///app/a.ts:4', 'const port = 1', '\tthrow new Error(\'no\')', '\t      ^^^', 'last()', '',
    'SyntaxError [ERR_X]: no, because', '    at parse (node:internal/x:1:1)', '    at load (file:///app/other.ts:1:1)',
  ].join('\n')
  const frame = ['app/a.ts:4:8', '  2 |', '  3 | const port = 1', '> 4 |  throw new Error(\'no\')', '    |        ^', '  5 | last()']
  const lines = (text: string): string[] => text.replace(/^[./]*app\/a/m, 'app/a').split('\n')
  assert.deepEqual(lines(codeFrame(stack, read)), frame)
  assert.deepEqual(lines(errorText('app could not be loaded: no', stack, read)), [
    'app could not be loaded: no', ...frame, 'SyntaxError [ERR_X]: no, because', '    at load (file:///app/other.ts:1:1)',
  ])
  assert.equal(placeIn('/app/a.js:2\nconst = 1\n      ^\nSyntaxError: no')!.column, 7)
  // What merely looks like it is no head.
  const others = ['/app/a.js:2', '/app/a.js:2\nSyntaxError: no', 'file://%:1\nx\n^\n\nSyntaxError: no']
  for (const other of others) assert.equal(placeIn(other), null, other)
})

test('code frame: what is said already is not said again, and what happened inside Node.js not at all', () => {
  const stack = 'Error: first\nsecond\n    at node:internal/x:1:1\n    at gone (file:///gone.ts:1:1)\n    at async node:internal/y:1:1'
  assert.equal(errorText('a.ts could not be loaded: first\nsecond', stack, read), [
    'a.ts could not be loaded: first\nsecond', '    at gone (file:///gone.ts:1:1)',
  ].join('\n'))
  assert.equal(errorDetail(stack, read), 'Error: first\nsecond\n    at gone (file:///gone.ts:1:1)')
  assert.equal(errorText('nothing came', '', read), 'nothing came')
})

test('code frame: there is none where there is no such line', () => {
  const frames = ['', '    at /gone.ts:1:1', '    at /app/a.ts:99:1', '    at file://%:1:1', '    at eval (eval at <anonymous> (x:1:1))']
  for (const frame of frames) assert.equal(codeFrame(`Error: no\n${frame}`, read), '', frame)
  assert.equal(codeFrame('', read), '')
})
