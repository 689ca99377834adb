/**
 * What the pages (*.md) of the repository lead to: their links to files, and the files that they name in backticks. Both
 * must be there, so that a page cannot go on speaking of a file that was moved or split.
 *
 * A name in backticks with a folder in it is looked for from the page's folder, from the root and from src/; one without
 * only where the page describes its own folder, that is, not at the root and not in docs/. A README.md with a table of the
 * files in its folder (headed `| file | |`) names all of them. Links to headings are not followed, links to other places are
 * left alone.
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

/** The text of a page for a place that holds only some of the files: links to the others become their plain text. */
export function withoutDeadLinks(page: string, text: string, has: (file: string) => boolean): string {
  return text.replaceAll(LINK, (whole, label: string, link: string) => {
    const target = linkTarget(page, link)
    return target === null || has(target) ? whole : label
  })
}
