import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkPages, linkTarget, withoutDeadLinks } from '../../scripts/page-links.ts'
import { printFinding } from '../../scripts/source-text.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

function findingsOf(t: Parameters<typeof temporaryFolder>[0], tree: Readonly<Record<string, string>>): string[] {
  const root = temporaryFolder(t)
  writeTree(root, tree)
  return checkPages(root).map(printFinding)
}

test('page-links: links and named files that are there are fine, wherever the page looks from', t => {
  assert.deepEqual(findingsOf(t, {
    'README.md': 'See [a](docs/a.md#part), [web](https://example.org/x.md), [below](#part). `app.ts` and `other.ts` are yours.\n',
    'docs/a.md': '[up](../README.md) `src/proxy/engine.ts` `proxy/engine.ts`\n',
    'src/proxy/README.md': '`engine.ts`\n```\n[not](a-link.md) `gone.ts`\n```\n',
    'src/proxy/engine.ts': '',
  }), [])
})

test('page-links: a link and a file name that lead nowhere are found, with their lines', t => {
  assert.deepEqual(findingsOf(t, {
    'docs/a.md': 'First.\n[gone](gone.md)\n',
    'src/proxy/README.md': '`relay.ts` `src/proxy/relay.ts`\n',
  }), [
    'docs/a.md:2: links to gone.md, which is not there; correct the link',
    'src/proxy/README.md:1: names the file relay.ts, which is not there; name the file that took its place',
    'src/proxy/README.md:1: names the file src/proxy/relay.ts, which is not there; name the file that took its place',
  ])
})

test('page-links: a page that lists the files of its folder lists all of them', t => {
  assert.deepEqual(findingsOf(t, {
    'supervisor/README.md': '# Files\n| file | |\n|---|---|\n| `a.ts` `b.mjs` | two |\n',
    'supervisor/a.ts': '', 'supervisor/b.mjs': '', 'supervisor/c.ts': '', 'supervisor/notes.txt': '',
  }), ['supervisor/README.md:2: does not name c.ts, which lies beside it; give it a row'])
})

test('page-links: a page that is published without some files loses the links to these, not their words', () => {
  const text = 'The [life](src/life.md#x) and [code](src/code.ts), [web](https://example.org/).'
  const kept = withoutDeadLinks('README.md', text, file => file === 'src/life.md')
  assert.equal(kept, 'The [life](src/life.md#x) and code, [web](https://example.org/).')
  assert.equal(linkTarget('docs/a.md', '../src/life.md#x'), 'src/life.md')
  assert.equal(linkTarget('docs/a.md', '#x'), null)
})
