import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { linkTarget, listPages } from '../../scripts/page-links.ts'

const ROOT = path.join(import.meta.dirname, '../..')

test('pages: docs/README.md leads to every page of docs', () => {
  const index = readFileSync(path.join(ROOT, 'docs/README.md'), 'utf8')
  const led = new Set([...index.matchAll(/\]\(([^()\s]+)\)/g)].map(([, link = '']) => linkTarget('docs/README.md', link)))
  const pages = listPages(path.join(ROOT, 'docs')).map(name => `docs/${name}`).filter(name => name !== 'docs/README.md')
  assert.ok(pages.length > 10)
  assert.deepEqual(pages.filter(page => !led.has(page)), [])
})
