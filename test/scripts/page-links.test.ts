import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkPages, headingAnchors, linkTarget, withoutDeadLinks } from '../../scripts/page-links.ts'
import { printFinding } from '../../scripts/source-text.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

function findingsOf(t: Parameters<typeof temporaryFolder>[0], tree: Readonly<Record<string, string>>): string[] {
  const root = temporaryFolder(t)
  writeTree(root, tree)
  return checkPages(root).map(printFinding)
}

test('page-links: links and named files that are there are fine, wherever the page looks from', t => {
  assert.deepEqual(findingsOf(t, {
    'README.md': '# Part\nSee [a](docs/a.md#part), [web](https://example.org/x.md#y), [below](#part). `app.ts` and `other.ts` are yours.\n',
    'docs/a.md': '## Part\n[up](../README.md) `src/proxy/engine.ts` `proxy/engine.ts`\n',
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

test('page-links: a link to a heading that is not there is found, on its own page and on another', t => {
  assert.deepEqual(findingsOf(t, {
    'docs/a.md': '# A\n[b](b.md#two) [b](b.md#three)\n```sh\n# Not a heading\n```\n[here](#a) [there](#not-a-heading)\n',
    'docs/b.md': '# One\n## Two\n',
  }), [
    'docs/a.md:2: links to b.md#three, a heading that is not there; correct the link',
    'docs/a.md:6: links to #not-a-heading, a heading that is not there; correct the link',
  ])
})

test('page-links: headings are called in links as GitHub calls them', () => {
  const text = '# What a throw does\n## `newCtx`, or not?\n## What is each worker\'s own\n## [A link](b.md)\n## Same\n## Same\n'
  const anchors = ['what-a-throw-does', 'newctx-or-not', 'what-is-each-workers-own', 'a-link', 'same', 'same-1']
  assert.deepEqual(headingAnchors(text), anchors)
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
