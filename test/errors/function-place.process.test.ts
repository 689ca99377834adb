import assert from 'node:assert/strict'
import path from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { functionHead, functionPlace } from '../../src/errors/function-place.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

const LINES = [
  'export class Edge {',
  '  async requestFiler(session: { path: string }): Promise<void> { session.path }',
  '  arrow = (x: number): number => x',
  '}',
  'export const plain = { loging: function (a: number) { return a },  other() {} }',
]

test('function place: the line of a method, and a mark below its name', async t => {
  const file = path.join(temporaryFolder(t), 'edge.ts')
  writeTree(path.dirname(file), { 'edge.ts': LINES.join('\n') })
  const { Edge, plain } = await import(pathToFileURL(file).href) as {
    Edge: new () => { requestFiler(): void; arrow(): void }
    plain: { loging(): void; other(): void }
  }
  const places: readonly (readonly [Function, number, string])[] = [
    [Edge.prototype.requestFiler, 2, 'requestFiler'], [new Edge().arrow, 3, 'arrow'],
    [plain.loging, 5, 'loging'], [plain.other, 5, 'other'],
  ]
  for (const [method, line, name] of places) {
    const text = LINES[line - 1]!
    assert.equal(functionHead(method), `${file}:${line}\n${text}\n${' '.repeat(text.indexOf(name))}^\n\n`, name)
    assert.deepEqual(functionPlace(method), { file, line, column: text.indexOf(name) + 1 })
  }
})

test('function place: none for what has no source, or none that can be read', () => {
  assert.equal(functionPlace(Math.max), null)
  assert.equal(functionHead(Math.max), '')
  assert.equal(functionPlace(test.bind(null)), null)
  assert.equal(functionPlace(new Function('return 1')), null) // oxlint-disable-line no-new-func
  assert.deepEqual(Object.getOwnPropertySymbols(globalThis).filter(({ description }) => description?.startsWith('cirque.asked')), [])
})
