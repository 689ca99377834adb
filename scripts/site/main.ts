/**
 * `npm run site [FOLDER]`: the guide as pages for a browser, in build/site unless FOLDER says otherwise. What it writes asks for
 * nothing from anywhere: open index.html, or put the folder on any server of files.
 */
import '../../src/runtime-check.ts'
import path from 'node:path'
import { buildSite } from './build-site.ts'

const ROOT = path.join(import.meta.dirname, '../..')
const target = path.resolve(process.argv[2] ?? path.join(ROOT, 'build/site'))
const { pages, files } = buildSite(ROOT, target)
console.log(`wrote ${pages} pages and ${files} files that they show to ${path.relative(process.cwd(), target)}/index.html`)
