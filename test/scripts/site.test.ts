import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { listPages } from '../../scripts/page-links.ts'
import { addressOf, buildSite } from '../../scripts/site/build-site.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

const ROOT = path.join(import.meta.dirname, '../..')

function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
    .map(entry => path.relative(folder, path.join(entry.parentPath, entry.name))).toSorted()
}

/** A site of two pages and what they need. */
function small(t: TestContext, tree: Readonly<Record<string, string>>): { build(): void; read(file: string): string } {
  const root = temporaryFolder(t)
  writeTree(root, { 'README.md': '# Cirque\n[guide](docs/README.md)\n', 'docs/README.md': '# Guide\n', ...tree })
  const target = path.join(root, 'site')
  return { build: () => { buildSite(root, target) }, read: file => readFileSync(path.join(target, file), 'utf8') }
}

test('site: every link leads to a page, and to a heading, that is there; nothing comes from elsewhere', t => {
  const site = temporaryFolder(t)
  buildSite(ROOT, site)
  const files = filesOf(site), pages = new Map<string, { html: string; ids: Set<string> }>()
  for (const file of files.filter(name => name.endsWith('.html'))) {
    const html = readFileSync(path.join(site, file), 'utf8')
    const ids = [...html.matchAll(/ id="([^"]*)"/g)].map(([, id = '']) => id)
    assert.equal(new Set(ids).size, ids.length, `${file}: two things with one id`)
    pages.set(file, { html, ids: new Set(ids) })
  }
  const dead: string[] = []
  let followed = 0
  for (const [file, { html }] of pages) {
    assert.equal(html.match(/<h1[ >]/g)?.length, 1, `${file}: one heading of the first level`)
    assert.doesNotMatch(html, /<(?:script|img|iframe)\b| src=|@import|url\(/, file)
    for (const [, link = ''] of html.matchAll(/ href="([^"]*)"/g)) {
      if (/^https?:/.test(link)) continue
      followed++
      const [to = '', anchor] = link.split('#')
      const found = to === '' ? file : path.posix.join(path.posix.dirname(file), to)
      if (!files.includes(found) || (anchor !== undefined && !pages.get(found)!.ids.has(anchor))) dead.push(`${file}: ${link}`)
    }
  }
  assert.deepEqual(dead, [])
  assert.ok(followed > 1000)
  for (const page of listPages(path.join(ROOT, 'docs'))) assert.ok(pages.has(addressOf(`docs/${page}`)), page)
})

test('site: a page is framed by the chapters of the index, and its own sections stand below its entry', t => {
  const site = small(t, {
    'docs/README.md': '# Guide\n\n| To begin | |\n|---|---|\n| [First steps](first.md) | how |\n',
    'docs/first.md': '# First\n\n## One `a < b`\n\n[x](first.md#one-a--b)\n',
  })
  site.build()
  const first = site.read('docs/first.html')
  assert.match(first, /<p>To begin<\/p>\n<ul>\n<li><a href="first\.html" aria-current="page">First steps<\/a>/)
  assert.match(first, /<li><a href="#one-a--b">One a &lt; b<\/a><\/li>/)
  assert.match(first, /<h2 id="one-a--b">One <code>a &lt; b<\/code>/)
  assert.match(site.read('index.html'), /<li><a href="docs\/first\.html">First steps<\/a><\/li>/)
})

test('site: a file that a page links to is shown, word by word', t => {
  const guide = '# Guide\n[file](../src/a.ts) [folder](../src) [web](https://example.org/)\n'
  const site = small(t, { 'docs/README.md': guide, 'src/a.ts': 'a < b && "c"\n' })
  site.build()
  assert.match(site.read('src/a.ts.html'), /<pre><code>a &lt; b &amp;&amp; &quot;c&quot;\n/)
  const links = '<a href="../src/a.ts.html">file</a> folder <a href="https://example.org/">web</a>'
  assert.ok(site.read('docs/index.html').includes(links))
})

test('site: a link that leads nowhere, HTML, and a page without a heading are refused with the page, and nothing is written', t => {
  const refused: readonly (readonly [string, RegExp])[] = [
    ['# A\n[x](gone.md)\n', /docs\/README\.md links to gone\.md, which is not there/],
    ['# A\n[x](../../outside.md)\n', /docs\/README\.md links to \.\.\/\.\.\/outside\.md, which is not there/],
    ['# A\nIt takes <name>.\n', /docs\/README\.md has HTML: <name>; write Markdown/],
    ['## A\n', /docs\/README\.md has no heading of the first level/],
  ]
  for (const [text, message] of refused) {
    const site = small(t, { 'docs/README.md': text })
    assert.throws(() => site.build(), message)
    assert.throws(() => site.read('index.html'), { code: 'ENOENT' })
  }
})

test('site: it takes the place of a site, and of nothing else', t => {
  const root = temporaryFolder(t)
  writeTree(root, {
    'README.md': '# Cirque\n', 'docs/README.md': '# Guide\n', 'home/letter.txt': 'dear', 'site/site.css': '', 'site/old.html': '',
  })
  const refused = /home has something else in it; name a folder that is empty, or holds a site/
  assert.throws(() => buildSite(root, path.join(root, 'home')), refused)
  assert.deepEqual(filesOf(path.join(root, 'home')), ['letter.txt'])
  buildSite(root, path.join(root, 'site'))
  assert.deepEqual(filesOf(path.join(root, 'site')), ['docs/index.html', 'index.html', 'site.css'])
})
