import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkLineLength, LINE_MAX, longLines } from '../../scripts/check-line-length.ts'
import { printFinding } from '../../scripts/source-text.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

const FITS = 'x'.repeat(LINE_MAX)
const LONG = 'x'.repeat(LINE_MAX + 1)

test('line length: the last character that fits, and the first that does not', () => {
  assert.deepEqual(longLines(`${FITS}\n${LONG}\n`), [{ line: 2, length: LINE_MAX + 1 }])
})

test('line length: comments and strings count as well', () => {
  assert.equal(longLines(`  // ${LONG}\n const a = '${LONG}'`).length, 2)
})

test('line length: an import of one name has no place to break, one of two has', () => {
  const from = `from '../${'long/'.repeat(30)}file.ts'`
  assert.deepEqual(longLines(`import { a } ${from}\nimport type { a as b } ${from}\nimport * as c ${from}\nexport { a } ${from}`), [])
  assert.equal(longLines(`import { a, b } ${from}`).length, 1)
})

test('line length: an address that is most of a line may be long, a sentence beside a short one may not', () => {
  const word = 'https://example.org/'
  assert.deepEqual(longLines(`// See ${word}${'a'.repeat(LINE_MAX)}`), [])
  assert.equal(longLines(`// See ${word} ${LONG}`).length, 1)
})

test('line length: only the places that were named are looked at, in files of code, and the finding says where', (t) => {
  const root = temporaryFolder(t)
  writeTree(root, {
    'src/pool/a.ts': `\n${LONG}\n`, 'src/pool/deep/b.mjs': LONG, 'src/pool/README.md': LONG, 'src/peer/c.ts': LONG, 'src/index.ts': LONG,
  })
  assert.deepEqual(checkLineLength(root, ['src/pool/', 'src/index.ts']).map(printFinding).map(text => text.split(' ')[0]), [
    'src/index.ts:1:', 'src/pool/a.ts:2:', 'src/pool/deep/b.mjs:1:',
  ])
  assert.match(checkLineLength(root, ['src/pool/'])[0]?.text ?? '', /^has 141 characters; .* at most 140$/)
})

test('line length: a place that is excepted is not looked at, a file whose name only begins like it is', (t) => {
  const root = temporaryFolder(t)
  writeTree(root, { 'src/pool/a.ts': LONG, 'src/peer.ts': LONG, 'src/peer.next.ts': LONG, 'src/pooled.ts': LONG })
  const found = checkLineLength(root, ['src/'], ['src/pool/', 'src/peer.ts'])
  assert.deepEqual(found.map(({ file }) => file), ['src/peer.next.ts', 'src/pooled.ts'])
})
