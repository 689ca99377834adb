/**
 * What the pages (*.md) of the repository lead to: their links to files and to headings, and the files that they name in
 * backticks. All must be there, so that a page cannot go on speaking of what was moved, split or renamed.
 *
 * A name in backticks with a folder in it is looked for from the page's folder, from the root and from src/; one without
 * only where the page describes its own folder, that is, not at the root and not in docs/. A README.md with a table of the
 * files in its folder (headed `| file | |`) names all of them. Links to other places are left alone.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import type { Finding } from './source-text.ts'

/** `template` holds pages of the projects that are made from it. */
const SKIPPED_FOLDERS: ReadonlySet<string> = new Set(['node_modules', 'build', '.git', 'template'])
const LINK = /\[([^\][]*)\]\(([^()\s]+)\)/g
const NAMED_FILE = /`((?:[\w.-]+\/)*[\w.-]+\.(?:ts|mjs|md|sh))`/g
/** Head of a table that describes every file beside the page. */
const FILES_HEAD = '| file | |'
/** Written in a page, but of the reader's own project. */
const READERS_OWN: ReadonlySet<string> = new Set(['app.ts', 'app.test.ts'])

/** Every page under `root`, relative to it. */
export function listPages(root: string): string[] {
  const found: string[] = []
  const walk = (folder: string): void => {
    for (const entry of readdirSync(path.join(root, folder), { withFileTypes: true })) {
      const name = folder === '' ? entry.name : `${folder}/${entry.name}`
      if (entry.isDirectory() && !SKIPPED_FOLDERS.has(entry.name)) walk(name)
      else if (entry.isFile() && entry.name.endsWith('.md')) found.push(name)
    }
  }
  walk('')
  return found.toSorted()
}

/** Where a link of `page` leads, from the root; null when it leaves the repository, or stays within the page. */
export function linkTarget(page: string, link: string): string | null {
  const file = link.replace(/#.*$/, '')
  if (file === '' || /^[a-z][a-z+.-]*:/i.test(file)) return null
  return path.posix.join(path.posix.dirname(page), file)
}

/**
 * What the headings of a page are called in links, as GitHub and the site of these pages have it: in lower case, without
 * punctuation, blanks as hyphens; one that is there twice is numbered from its second place on.
 */
export function headingAnchors(text: string): string[] {
  const anchors: string[] = [], times = new Map<string, number>()
  for (const [, heading = ''] of text.replaceAll(/^```.*?^```/gms, '').matchAll(/^#{1,6} (.+)$/gm)) {
    const shown = heading.replaceAll(LINK, '$1')
    const anchor = shown.trim().toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-')
    const before = times.get(anchor) ?? 0
    times.set(anchor, before + 1)
    anchors.push(before === 0 ? anchor : `${anchor}-${before}`)
  }
  return anchors
}

export function checkPages(root: string): Finding[] {
  const findings: Finding[] = []
  for (const page of listPages(root)) {
    let fenced = false
    const lines = readFileSync(path.join(root, page), 'utf8').split('\n')
    const table = lines.indexOf(FILES_HEAD)
    if (table >= 0) for (const text of unnamedFiles(root, page, lines)) findings.push({ file: page, line: table + 1, text })
    for (const [index, line] of lines.entries()) {
      if (line.startsWith('```')) fenced = !fenced
      if (fenced) continue
      for (const text of faultsOf(root, page, line)) findings.push({ file: page, line: index + 1, text })
    }
  }
  return findings
}

function unnamedFiles(root: string, page: string, lines: readonly string[]): string[] {
  const rows = lines.filter(line => line.startsWith('| `')).join('\n')
  const files = readdirSync(path.join(root, path.dirname(page))).filter(name => /\.(?:ts|mjs)$/.test(name))
  const unnamed = files.filter(name => !rows.includes(`\`${name}\``)).toSorted()
  return unnamed.map(name => `does not name ${name}, which lies beside it; give it a row`)
}

function faultsOf(root: string, page: string, line: string): string[] {
  const faults: string[] = []
  for (const [, , link = ''] of line.matchAll(LINK)) {
    const target = linkTarget(page, link)
    if (target !== null && !existsSync(path.join(root, target))) faults.push(`links to ${link}, which is not there; correct the link`)
    else if (!hasHeading(root, target ?? page, link)) faults.push(`links to ${link}, a heading that is not there; correct the link`)
  }
  const folder = path.posix.dirname(page)
  const bareToo = folder !== '.' && folder !== 'docs'
  for (const [, name = ''] of line.matchAll(NAMED_FILE)) {
    if (READERS_OWN.has(name) || (!bareToo && !name.includes('/'))) continue
    if ([folder, '.', 'src'].some(from => existsSync(path.join(root, from, name)))) continue
    faults.push(`names the file ${name}, which is not there; name the file that took its place`)
  }
  return faults
}

/** Whether the heading that `link` names, if it names one, is on the page that it leads to. */
function hasHeading(root: string, file: string, link: string): boolean {
  const anchor = /^[a-z][a-z+.-]*:/i.test(link) ? undefined : link.split('#')[1]
  if (anchor === undefined || !file.endsWith('.md')) return true
  return headingAnchors(readFileSync(path.join(root, file), 'utf8')).includes(anchor)
}

/** The text of a page for a place that holds only some of the files: links to the others become their plain text. */
export function withoutDeadLinks(page: string, text: string, has: (file: string) => boolean): string {
  return text.replaceAll(LINK, (whole, label: string, link: string) => {
    const target = linkTarget(page, link)
    return target === null || has(target) ? whole : label
  })
}
