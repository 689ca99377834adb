/**
 * The site of the guide: README.md, docs/README.md, every page that one can get to from there, and every file that a page links to,
 * as a page that shows it. Where a page leads out of that, the build fails.
 *
 *   README.md ─▶ index.html      docs/hooks.md ─▶ docs/hooks.html      examples/canary.ts ─▶ examples/canary.ts.html
 *
 * Invariant: all that is written is reachable, and every link of it leads to something that is written, or to the web.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { linkTarget } from '../page-links.ts'
import { framePage, type Chapter } from './page-frame.ts'
import { renderFile, renderPage, type RenderedPage } from './render-page.ts'

/** Where a reader begins, and what names all pages in their order. */
const FIRST = 'README.md'
const INDEX = 'docs/README.md'
const STYLES = 'site.css'

/**
 * @param target what a site before this one left there is replaced
 * @throws Error that names the page, for a link that leads nowhere, and for what is no Markdown; for a folder with something else in it
 */
export function buildSite(root: string, target: string): { pages: number; files: number } {
  const rendered = new Map<string, RenderedPage>()
  const wanted = [FIRST, INDEX]
  for (let file = wanted.pop(); file !== undefined; file = wanted.pop()) {
    if (rendered.has(file)) continue
    const from = file
    const text = readFileSync(path.join(root, from), 'utf8')
    const hrefOf = (link: string): string | null => {
      const target = linkTarget(from, link)
      if (target === null) return link
      const kind = kindOf(root, target)
      if (kind === null) return null
      const found = kind === 'folder' ? `${target.replace(/\/$/, '')}/README.md` : target
      // A folder without a page of its own has nothing to show.
      if (kindOf(root, found) === null) return ''
      wanted.push(found)
      return hrefBetween(from, found) + (link.includes('#') ? link.slice(link.indexOf('#')) : '')
    }
    rendered.set(from, from.endsWith('.md') ? renderPage(from, text, hrefOf) : renderFile(from, text))
  }
  clear(target)
  const chapters = chaptersOf(readFileSync(path.join(root, INDEX), 'utf8'))
  for (const [file, page] of rendered) {
    const full = path.join(target, addressOf(file))
    mkdirSync(path.dirname(full), { recursive: true })
    writeFileSync(full, framePage({ file, page, chapters, hrefTo: to => hrefBetween(file, to), styles: relative(file, STYLES) }))
  }
  cpSync(path.join(import.meta.dirname, STYLES), path.join(target, STYLES))
  const pages = [...rendered.keys()].filter(file => file.endsWith('.md')).length
  return { pages, files: rendered.size - pages }
}

function kindOf(root: string, name: string): 'file' | 'folder' | null {
  const found = name.startsWith('..') ? undefined : statSync(path.join(root, name), { throwIfNoEntry: false })
  return found === undefined ? null : found.isDirectory() ? 'folder' : 'file'
}

/** What is not a site is somebody's. */
function clear(target: string): void {
  if (existsSync(target) && readdirSync(target).length > 0 && !existsSync(path.join(target, STYLES))) {
    throw new Error(`${target} has something else in it; name a folder that is empty, or holds a site`)
  }
  rmSync(target, { recursive: true, force: true })
}

/** Where a file is shown, from the root of the site. */
export function addressOf(file: string): string {
  if (!file.endsWith('.md')) return `${file}.html`
  return file.replace(/(?:README)?\.md$/, end => end === '.md' ? '.html' : 'index.html')
}

function hrefBetween(from: string, to: string): string { return relative(from, addressOf(to)) }
function relative(from: string, to: string): string { return path.posix.relative(path.posix.dirname(addressOf(from)), to) }

/** The tables of the index: the head of each is a chapter, the links of its rows are the pages. */
function chaptersOf(index: string): Chapter[] {
  return index.split(/\n\n+/).filter(block => block.startsWith('| ')).map(table => {
    const [head = '', , ...rows] = table.trimEnd().split('\n')
    const links = rows.flatMap(row => [...row.split('|')[1]!.matchAll(/\[([^\]]+)\]\(([^)]+)\)/g)])
    return {
      title: head.split('|')[1]!.trim(),
      pages: links.map(([, title = '', link = '']) => ({ title, file: linkTarget(INDEX, link)! })),
    }
  })
}
