import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { pageBlocks, sampleOf } from './page-blocks.ts'
import { temporaryFolder, writeTree } from './temporary-folder.ts'

const EXPORTED = new Map<string, 'type' | 'value'>([['HttpPeer', 'value'], ['Session', 'type'], ['inject', 'value']])

function blocksOf(t: TestContext, text: string): ReturnType<typeof pageBlocks> {
  const root = temporaryFolder(t)
  writeTree(root, { 'docs/a.md': text })
  return pageBlocks(root, 'docs/a.md')
}

function sample(t: TestContext, text: string): ReturnType<typeof sampleOf> {
  return sampleOf(blocksOf(t, `\`\`\`ts\n${text}\`\`\`\n`)[0]!, EXPORTED)
}

test('page-blocks: a block has the line of its code, its language and the words behind that', t => {
  assert.deepEqual(blocksOf(t, '# A\n```ts fragment\na\n\nb\n```\n\n```\n```\n'), [
    { page: 'docs/a.md', line: 3, language: 'ts', words: ['fragment'], text: 'a\n\nb\n' },
    { page: 'docs/a.md', line: 9, language: '', words: [], text: '\n' },
  ])
})

test('page-blocks: a fence that is indented, and one that is not closed, are refused with their line', t => {
  assert.throws(() => blocksOf(t, '- a\n  ```ts\n  ```\n'), /docs\/a\.md:2: an indented fence/)
  assert.throws(() => blocksOf(t, 'a\n```ts\nb\n'), /docs\/a\.md:2: a fence that is not closed/)
})

test('page-blocks: a sample without imports gets those of what it names, on its first line', t => {
  const text = 'const peer = (session: Session) => new HttpPeer(session.listener) // inject\n'
  assert.equal(sample(t, text).text, `import { HttpPeer, type Session } from 'cirque'; ${text}export { peer }\n`)
  const own = "import { HttpPeer } from 'cirque'\nnew HttpPeer('a:1')\n"
  assert.equal(sample(t, own).text, own)
})

test('page-blocks: a sample is the file that it names in its first line', t => {
  assert.equal(sample(t, "// app.ts\nexport const a = 'x'\n").name, 'app.ts')
  assert.equal(sample(t, "export const a = 'x'\n").name, 'line-2.ts')
})

test('page-blocks: what a sample prints stands behind each of its lines that print, or nowhere', t => {
  assert.deepEqual(sample(t, 'console.log(1) // 1\nconsole.log("a // b") // a // b\n').prints, ['1', 'a // b'])
  assert.equal(sample(t, 'console.log(1)\n').prints, null)
  assert.throws(() => sample(t, 'console.log(1)\nconsole.log(2) // 2\n'), /docs\/a\.md:2: some console\.log say what they print/)
})
