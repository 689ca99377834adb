/**
 * Every block of code in the pages does what it says, to a reader who has the package: TypeScript passes the compiler with the
 * settings of a new project, is run, and prints what stands beside it; a configuration is read by the reader of configurations; scripts
 * of npm are there. Commands of `cirque` are read in test/supervisor/documented-commands.test.ts.
 *
 * What is not checked says so: `ts fragment` is a piece out of a whole (it must parse), `text` is what a program prints, or a drawing.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { format, inspect, isDeepStrictEqual } from 'node:util'
import { parseAllDocuments } from 'yaml'
import { createProject } from '../../create/project.ts'
import { buildPackage } from '../../scripts/build-package.ts'
import { listPages } from '../../scripts/page-links.ts'
import { readVariable } from '../../src/config/environment.ts'
import { loadConfig } from '../../src/config/load-config.ts'
import type * as RunHost from '../../src/server/run-host.ts'
import { exportedNames, pageBlocks, sampleOf, type PageBlock, type SampleFile } from '../support/page-blocks.ts'
import { findProgram } from '../support/programs.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

const ROOT = path.join(import.meta.dirname, '../..')
const RUN_MAX_MS = 20_000

const PAGES: readonly string[] = [
  'README.md', 'CONTRIBUTING.md', 'create/template/README.md', 'scripts/systemd/README.md',
  ...listPages(path.join(ROOT, 'docs')).map(name => `docs/${name}`),
].toSorted()

/** Pieces out of a whole, by page: each one that is added is one that is not checked. */
const FRAGMENTS: Readonly<Record<string, number>> = { 'CONTRIBUTING.md': 1, 'docs/style.md': 2 }

const BLOCKS: readonly PageBlock[] = PAGES.flatMap(page => pageBlocks(ROOT, page))
const SAMPLES: readonly SampleFile[] = ((exported = exportedNames(ROOT)) => BLOCKS
  .filter(({ language, words }) => language === 'ts' && !words.includes('fragment'))
  .map(block => sampleOf(block, exported)))()

const folder = realpathSync(mkdtempSync(path.join(os.tmpdir(), 'cirque-')))
const installed = path.join(folder, 'node_modules/cirque')

before(() => {
  buildPackage(installed)
  const { dependencies } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { dependencies: object }
  for (const name of ['@types/node', ...Object.keys(dependencies)]) {
    mkdirSync(path.dirname(path.join(folder, 'node_modules', name)), { recursive: true })
    symlinkSync(path.join(ROOT, 'node_modules', name), path.join(folder, 'node_modules', name))
  }
  const template = readFileSync(path.join(ROOT, 'create/template/tsconfig.json'), 'utf8')
  const { compilerOptions } = JSON.parse(template) as { compilerOptions: object }
  writeTree(folder, {
    'package.json': '{ "name": "reader", "private": true, "type": "module" }',
    // What the strictest of readers may have set as well.
    'tsconfig.json': JSON.stringify({ compilerOptions: { ...compilerOptions, exactOptionalPropertyTypes: true }, include: ['pages'] }),
  })
  for (const sample of SAMPLES) writeTree(folder, { [fileOf(sample)]: sample.text })
})
after(() => rmSync(folder, { recursive: true, force: true }))

function fileOf({ block, name }: SampleFile): string { return path.join('pages', block.page, name) }
function placeOf({ page, line }: PageBlock): string { return `${page}:${line}` }
function blocksOf(...languages: readonly string[]): PageBlock[] { return BLOCKS.filter(({ language }) => languages.includes(language)) }

test('pages: every block says what it is, and the pieces that no compiler sees are counted', t => {
  const known = ['ts', 'yaml', 'json', 'sh', 'diff', 'text', 'nginx']
  const unknown = BLOCKS.filter(({ language }) => !known.includes(language))
  const remedy = `say one of ${known.join(', ')} behind the fence`
  assert.deepEqual(unknown.map(block => `${placeOf(block)}: a block of '${block.language}'; ${remedy}`), [])
  // What a terminal shows in which the command stays that follows (test/support/guide-steps.ts).
  const ofTerminal = ({ language, words }: PageBlock): boolean => language === 'text' && words[0] === 'of'
  const further = BLOCKS.filter(block => !ofTerminal(block) && block.words.some(word => word !== 'fragment'))
  const wordsOnly = "only 'fragment' may follow, and 'of COMMAND' behind text"
  assert.deepEqual(further.map(block => `${placeOf(block)}: the words ${block.words.join(' ')}; ${wordsOnly}`), [])
  const fragments: Record<string, number> = {}
  for (const { page, words } of BLOCKS) if (words.includes('fragment')) fragments[page] = (fragments[page] ?? 0) + 1
  assert.deepEqual(fragments, FRAGMENTS)
  // What start-a-project.test.ts does word by word.
  assert.deepEqual([...new Set(blocksOf('diff').map(({ page }) => page))], ['docs/start.md'])
  t.diagnostic(known.map(language => `${language}: ${blocksOf(language).length}`).join(', '))
})

test('pages: two samples of one page that are files of the reader have two names', () => {
  const files = SAMPLES.map(fileOf)
  assert.deepEqual(files.filter((file, index) => files.indexOf(file) !== index), [])
})

test('pages: TypeScript passes the compiler, against the declarations that are published', () => {
  assert.ok(SAMPLES.length > 3)
  const { status, stdout, error } = spawnSync(path.join(ROOT, 'node_modules/.bin/tsc'), ['--project', folder, '--pretty', 'false'], {
    cwd: folder, encoding: 'utf8',
  })
  assert.equal(error, undefined)
  const lineInPage = (name: string, line: string, column: string): string => {
    const sample = SAMPLES.find(one => fileOf(one) === name)
    return sample === undefined ? `${name}(${line},${column})` : `${sample.block.page}:${sample.block.line + Number(line) - 1}`
  }
  const at = /^(\S+)\((\d+),(\d+)\)/gm
  assert.equal(status, 0, stdout.replaceAll(at, (_, name: string, line: string, column: string) => lineInPage(name, line, column)))
})

test('pages: a piece of TypeScript parses', () => {
  for (const block of BLOCKS.filter(({ words }) => words.includes('fragment'))) {
    assert.doesNotThrow(() => stripTypeScriptTypes(block.text), placeOf(block))
  }
})

test('pages: TypeScript runs, its servers can be started, and it prints what it says', async t => {
  const { claimRunHost } = await import(pathToFileURL(path.join(installed, 'dist/src/server/run-host.js')).href) as typeof RunHost
  const loaded = new Error('the application was loaded')
  // As `cirque validate` has it.
  claimRunHost({
    run(server) {
      assert.ok(server.describe().listeners.length > 0)
      return Promise.reject(loaded)
    },
  })
  const printed: string[] = []
  t.mock.method(console, 'log', (...values: unknown[]) => { printed.push(...format(...values).split('\n')) })
  const faults: string[] = []
  for (const sample of SAMPLES) {
    printed.length = 0
    const file = path.join(folder, fileOf(sample)), place = placeOf(sample.block)
    if (/ from 'node:test'/.test(sample.text)) {
      faults.push(...runTests(file).map(fault => `${place}: ${fault}`))
      continue
    }
    try {
      await import(pathToFileURL(file).href)
    } catch (error) {
      if (error !== loaded) faults.push(`${place}: ${inspect(error)}`)
    }
    if (sample.prints === null || isDeepStrictEqual(printed, sample.prints)) continue
    faults.push(`${place}: prints ${inspect(printed)}, and says ${inspect(sample.prints)}`)
  }
  assert.equal(faults.join('\n'), '')
})

/** A file of tests is a process of its own. @returns what is wrong */
function runTests(file: string): string[] {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const { status, stdout } = spawnSync(process.execPath, ['--test-reporter', 'tap', file], {
    cwd: folder, encoding: 'utf8', env, timeout: RUN_MAX_MS,
  })
  return status === 0 && /^# pass [1-9]/m.test(stdout) ? [] : [stdout]
}

test('pages: a configuration is one that Cirque reads, also inside a ConfigMap', t => {
  const file = path.join(temporaryFolder(t), 'cirque.yaml')
  const read = (text: string, place: string): void => {
    writeFileSync(file, text)
    assert.doesNotThrow(() => loadConfig({ file, env: {} }), place)
  }
  let configurations = 0
  for (const block of blocksOf('yaml')) {
    for (const document of parseAllDocuments(block.text)) {
      assert.ok('contents' in document && document.errors.length === 0, placeOf(block))
      const value = document.toJS() as { kind?: string; data?: Record<string, string> }
      if (value.kind === undefined) read(document.toString(), placeOf(block))
      else if (value.data?.['cirque.yaml'] === undefined) continue
      else read(value.data['cirque.yaml'], placeOf(block))
      configurations++
    }
  }
  assert.ok(configurations > 0)
  read(readFileSync(path.join(ROOT, 'create/template/cirque.yaml'), 'utf8'), 'create/template/cirque.yaml')
})

test('pages: JSON is JSON', () => {
  for (const block of blocksOf('json')) assert.doesNotThrow(() => JSON.parse(block.text), placeOf(block))
})

test('pages: nginx reads what is shown of its configuration', t => {
  const nginx = findProgram('nginx')
  for (const block of blocksOf('nginx')) {
    if (nginx === null) {
      t.skip('nginx: not installed')
      return
    }
    const prefix = temporaryFolder(t)
    mkdirSync(path.join(prefix, 'logs'))
    const main = /^\s*(?:server|upstream|map)\b/m.test(block.text) ? `events {}\nhttp {\n${block.text}}\n` : block.text
    writeFileSync(path.join(prefix, 'nginx.conf'), `pid ${prefix}/pid;\nerror_log stderr;\n${main}`)
    const { status, stderr } = spawnSync(nginx, ['-t', '-p', prefix, '-c', path.join(prefix, 'nginx.conf')], { encoding: 'utf8' })
    assert.equal(status, 0, `${placeOf(block)}: ${stderr}`)
  }
})

/** `a && b; c | d` as the words of each; quotes keep words together. */
function commandsOf(text: string): string[][] {
  const commands: string[][] = [[]]
  const lines = text.replaceAll(/\\\n/g, ' ').replaceAll(/(^|\s)#.*$/gm, '')
  for (const [, operator, quoted, other] of lines.matchAll(/(&&|\|\|?|;|\n)|'([^']*)'|((?:[^\s|;&']|&(?!&))+)/g)) {
    if (operator !== undefined) commands.push([])
    else commands.at(-1)!.push(quoted ?? other ?? '')
  }
  return commands.filter(words => words.length > 0)
}

test('pages: scripts that are run are there, and variables are such as are read', t => {
  const scriptsOf = (project: string): string[] => {
    const { scripts } = JSON.parse(readFileSync(path.join(project, 'package.json'), 'utf8')) as { scripts: object }
    return Object.keys(scripts)
  }
  // Of the repository, and of a project that it makes.
  const scripts = new Set([...scriptsOf(ROOT), ...scriptsOf(createProject(path.join(temporaryFolder(t), 'edge'), ROOT).folder)])
  let asked = 0
  for (const block of blocksOf('sh')) {
    for (const command of commandsOf(block.text)) {
      const words = command.slice(command.findIndex(word => !/^\w+=/.test(word)))
      for (const word of command.slice(0, command.length - words.length)) {
        const [, name = '', value] = /^(\w+)=(.*)$/s.exec(word) ?? []
        if (!name.startsWith('CIRQUE_')) continue
        assert.notEqual(readVariable(name, value).kind, 'unknown', `${placeOf(block)}: ${name}`)
        assert.doesNotThrow(() => loadConfig({ folder, env: { [name]: value } }), `${placeOf(block)}: ${word}`)
      }
      if (words[0] !== 'npm' || words[1] !== 'run') continue
      asked++
      assert.ok(scripts.has(words[2] ?? ''), `${placeOf(block)}: npm run ${words[2]}`)
    }
  }
  assert.ok(asked > 5)
})
