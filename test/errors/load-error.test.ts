/** Each file is loaded by Node.js, and its own error is what is explained. */
import assert from 'node:assert/strict'
import { registerHooks } from 'node:module'
import path from 'node:path'
import { test } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { describeLoadError } from '../../src/errors/load-error.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

const MODULE = '{\n  "type": "module"\n}\n'
const COMMONJS = '{\n  "name": "x",\n  "type": "commonjs"\n}\n'
const UNSAID = '{}\n'

interface Wrong {
  readonly files: Readonly<Record<string, string>>
  /** What is said; files are named without their folder. */
  readonly says: string
}

const APPS: Readonly<Record<string, Wrong>> = {
  'import in a package of CommonJS, as npm init makes it': {
    files: { 'package.json': COMMONJS, 'app.ts': '\nimport fs from \'node:fs\'\nfs\n' },
    says: 'app.ts:2: Cannot use import statement outside a module; the file is loaded as CommonJS, because package.json:3 says ' +
      '"type": "commonjs"; say "type": "module" there, or call the file app.mts',
  },
  'import in a file whose name says CommonJS': {
    files: { 'package.json': MODULE, 'app.cjs': 'import fs from \'node:fs\'\nfs\n' },
    says: 'app.cjs:1: Cannot use import statement outside a module; the file is loaded as CommonJS, because its name ends with .cjs; ' +
      'call it app.mjs',
  },
  'await outside of functions in CommonJS': {
    files: { 'package.json': COMMONJS, 'app.ts': 'const x = 1\nawait x\n' },
    says: 'app.ts:2: await is only valid in async functions and the top level bodies of modules; the file is loaded as CommonJS, because ' +
      'package.json:3 says "type": "commonjs"; say "type": "module" there, or call the file app.mts',
  },
  'import.meta in CommonJS': {
    files: { 'package.json': COMMONJS, 'app.js': 'console.log(import.meta.dirname)\n' },
    says: 'app.js:1: Cannot use \'import.meta\' outside a module; the file is loaded as CommonJS, because package.json:3 says ' +
      '"type": "commonjs"; say "type": "module" there, or call the file app.mjs',
  },
  'export in a file of CommonJS that a module imports': {
    files: { 'package.json': COMMONJS, 'app.mts': 'import { a } from \'./a.ts\'\na\n', 'a.ts': 'export const a = 1\n' },
    says: 'app.mts:1: The requested module \'./a.ts\' does not provide an export named \'a\'; a.ts is loaded as CommonJS, because ' +
      'package.json:3 says "type": "commonjs"; say "type": "module" there, or call the file a.mts',
  },
  'require in a module': {
    files: { 'package.json': MODULE, 'app.ts': '\nconst fs = require(\'node:fs\')\nfs\n' },
    says: 'app.ts:2: require is not defined in ES module scope (package.json:2 says "type": "module"); import what it needs ' +
      '(`import x from \'x\'`), or make one: `createRequire(import.meta.url)` of node:module',
  },
  'module.exports in a module that its name makes one': {
    files: { 'package.json': COMMONJS, 'app.mts': 'module.exports = {}\n' },
    says: 'app.mts:1: module is not defined in ES module scope (its name ends with .mts); use `export`',
  },
  '__dirname in a file that is a module because it imports': {
    files: { 'package.json': UNSAID, 'app.ts': 'import \'node:fs\'\nconsole.log(__dirname)\n' },
    says: 'app.ts:2: __dirname is not defined in ES module scope (it has import, export or await); use `import.meta.dirname`',
  },
  'require and await in one file': {
    files: { 'package.json': UNSAID, 'app.ts': 'const fs = require(\'node:fs\')\nawait fs\n' },
    says: 'app.ts:1: require() and an await outside of functions are in one file, which no kind of module may have; import what ' +
      'it requires',
  },
  'require of a module that waits': {
    files: { 'package.json': UNSAID, 'app.cjs': 'require(\'./waits.mjs\')\n', 'waits.mjs': 'await 1\n' },
    says: 'require() cannot load waits.mjs, which waits (top-level await), or imports one that does. Make app.cjs an ES module ' +
      'and import it there',
  },
  'a type that is imported as if it were a value': {
    files: {
      'package.json': MODULE,
      'app.ts': 'import { Shape } from \'./shape.ts\'\n',
      'shape.ts': 'export interface Shape { x: number }\n',
    },
    says: 'app.ts:1: The requested module \'./shape.ts\' does not provide an export named \'Shape\'; if it is a type, say so, ' +
      'because types ' +
      'are gone when it runs: `import { type Shape } from \'./shape.ts\'`',
  },
  'a path without an ending': {
    files: { 'package.json': MODULE, 'app.ts': 'import \'./lib/edge\'\n', 'lib/edge.ts': '' },
    says: 'app.ts:1: there is no lib/edge; there is lib/edge.ts: import \'./lib/edge.ts\', the name of a file with its ending',
  },
  'the ending that a compiler would have made': {
    files: { 'package.json': MODULE, 'lib/app.ts': 'import \'../edge.js\'\n', 'edge.ts': '' },
    says: 'lib/app.ts:1: there is no edge.js; there is edge.ts: import \'../edge.ts\', the name of a file with its ending',
  },
  'a folder': {
    files: { 'package.json': MODULE, 'app.ts': 'import \'./lib\'\n', 'lib/index.ts': '' },
    says: 'app.ts:1: lib is a folder; there is lib/index.ts: import \'./lib/index.ts\', the name of a file with its ending',
  },
  'a misspelt file': {
    files: { 'package.json': MODULE, 'app.ts': 'import \'./egde.ts\'\n', 'edge.ts': '' },
    says: 'app.ts:1: there is no egde.ts; there is edge.ts: import \'./edge.ts\', the name of a file with its ending',
  },
  'a file that is not there at all': {
    files: { 'package.json': MODULE, 'app.ts': 'import \'./nothing-like-it.ts\'\n' },
    says: 'app.ts:1: there is no nothing-like-it.ts',
  },
  'a package that is not installed': {
    files: { 'package.json': MODULE, 'app.ts': '\nimport "not-installed/some/part"\n' },
    says: 'app.ts:2: there is no package not-installed; run `npm install not-installed` in .',
  },
  'JSON without its attribute': {
    files: { 'package.json': MODULE, 'app.ts': 'import x from \'./x.json\'\nx\n', 'x.json': '{}' },
    says: 'Module "x.json" needs an import attribute of "type: json": import it `with { type: \'json\' }`',
  },
  'JSX': {
    files: { 'package.json': MODULE, 'app.tsx': 'export const a = 1\n' },
    says: 'Unknown file extension ".tsx" for app.tsx; Node.js runs no JSX: call it .ts when there is none in it',
  },
  'an enum': {
    files: { 'package.json': MODULE, 'app.ts': '\nenum A { B }\n' },
    says: 'app.ts:2: TypeScript enum is not supported in strip-only mode: Node.js only takes the types out; use an object `as ' +
      'const`, or a ' +
      'union of literals',
  },
  'a parameter property': {
    files: { 'package.json': MODULE, 'app.ts': 'class A { constructor(private x: number) {} }\n' },
    says: 'app.ts:1: TypeScript parameter property is not supported in strip-only mode: Node.js only takes the types out; declare ' +
      'the field ' +
      'and assign it in the constructor',
  },
  'a decorator': {
    files: {
      'package.json': MODULE,
      'app.ts': 'import \'./edge.ts\'\n',
      'edge.ts': 'const d = (of: unknown): void => {}\n@d\nclass A {}\n',
    },
    says: 'edge.ts:2: Invalid or unexpected token: decorators are not JavaScript yet, and Node.js only takes the types out; call the ' +
      'decorating function yourself',
  },
  'TypeScript that cannot be parsed': {
    files: { 'package.json': MODULE, 'app.ts': 'const a: number = 1\nconst = 2\n' },
    says: 'app.ts:2: Unexpected token `=`. Expected yield, an identifier, [ or {',
  },
  'JavaScript that cannot be parsed, which Node.js says of no file': {
    files: { 'package.json': MODULE, 'app.js': 'import \'./edge.js\'\n', 'edge.js': 'export const a = 1\nconst = 2\n' },
    says: 'edge.js:2: Unexpected token \'=\'',
  },
  'JavaScript that parses, and is wrong': {
    files: { 'package.json': MODULE, 'app.js': 'await 1\nconst a = 1\nconst a = 2\n' },
    says: 'app.js: Identifier \'a\' has already been declared',
  },
  'an error of the application itself': {
    files: { 'package.json': COMMONJS, 'app.mts': 'throw new Error(\'Unexpected token \\\'export\\\'\')\n' },
    says: 'Unexpected token \'export\'',
  },
}

for (const [title, { files, says }] of Object.entries(APPS)) {
  test(`load error: ${title}`, async t => {
    const folder = temporaryFolder(t)
    writeTree(folder, files)
    const { error, lastLoaded } = await errorOf(path.join(folder, Object.keys(files).find(name => name.includes('app.'))!))
    const { message, stack } = describeLoadError(error, [lastLoaded])
    assert.equal(message.replaceAll(pathToFileURL(`${folder}/`).href, '').replaceAll(`${folder}/`, '').replaceAll(folder, '.'), says)
    assert.ok(stack.endsWith((error as Error).stack ?? ''))
  })
}

async function errorOf(file: string): Promise<{ error: unknown; lastLoaded: string }> {
  let lastLoaded = ''
  const hooks = registerHooks({
    load(url, context, next) {
      if (url.startsWith('file:')) lastLoaded = fileURLToPath(url)
      return next(url, context)
    },
  })
  try {
    await import(pathToFileURL(file).href)
  } catch (error) {
    return { error, lastLoaded }
  } finally {
    hooks.deregister()
  }
  throw new assert.AssertionError({ message: `${file} could be loaded` })
}

test('load error: where Node.js could not go on reading stands before the stack, as it puts it there itself', async t => {
  const folder = temporaryFolder(t)
  writeTree(folder, { 'package.json': MODULE, 'app.js': 'export const a = 1\nconst = 2\n' })
  const { error, lastLoaded } = await errorOf(path.join(folder, 'app.js'))
  const { stack } = describeLoadError(error, [lastLoaded])
  assert.equal(stack, `${folder}/app.js:2\nconst = 2\n      ^\n\n${(error as Error).stack}`)
})

test('load error: the import that finds nothing stands before the stack', async t => {
  const folder = temporaryFolder(t)
  const line = 'import { a } from \'./a.ts\'; import \'./b\''
  writeTree(folder, { 'package.json': MODULE, 'app.ts': `\n${line}\n`, 'a.ts': 'export const a = 1\n', 'b.ts': '' })
  const { error, lastLoaded } = await errorOf(path.join(folder, 'app.ts'))
  const { stack } = describeLoadError(error, [lastLoaded])
  assert.equal(stack, `${folder}/app.ts:2\n${line}\n${' '.repeat(line.indexOf('\'./b'))}^\n\n${(error as Error).stack}`)
  // An import whose specifier is computed is somewhere in the file.
  writeTree(folder, { 'computed.ts': 'await import(\'./\' + \'c\')\n' })
  const computed = await errorOf(path.join(folder, 'computed.ts'))
  assert.match(describeLoadError(computed.error).message, /computed\.ts: there is no \S*c$/)
})

test('load error: causes are told below', () => {
  const cause = new TypeError('no such file', { cause: 'the disk' })
  const error = new Error('no configuration', { cause })
  const { message, stack } = describeLoadError(error)
  assert.deepEqual([message, stack], ['no configuration', `${error.stack}\nbecause of ${cause.stack}\nbecause of the disk`])
  const circle: Error & { cause?: unknown } = new Error('again')
  circle.cause = circle
  assert.equal(describeLoadError(circle).stack.split('because of').length, 4)
})

test('load error: what was thrown may be anything', () => {
  for (const thrown of [null, undefined, 5, 'text', {}, Object.create(null)]) assert.equal(describeLoadError(thrown).stack, '')
  const hostile = Object.defineProperty(new Error('no'), 'code', { get() { throw new Error('never') } })
  assert.equal(describeLoadError(hostile).message, 'no')
  assert.equal(describeLoadError(Object.assign(new Error('x'), { code: 'ERR_MODULE_NOT_FOUND', url: 'file://%' })).message, 'x')
  // The file is gone meanwhile.
  const stack = 'SyntaxError: no\n    at compileSourceTextModule (node:internal/x:1:1)'
  assert.equal(describeLoadError(Object.assign(new SyntaxError('no'), { stack }), ['/gone/app.js']).message, 'no')
})
