/** What holds for each recipe: it is to be found, says how it is tried, is short enough to be copied, and is tested. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'

const ROOT = path.join(import.meta.dirname, '../..')
const RECIPES = readdirSync(path.join(ROOT, 'examples')).filter(name => name.endsWith('.ts')).map(name => path.basename(name, '.ts'))
  .filter(name => name !== 'demo-origins' && name !== 'load-balancer')
/** Of code: what is said at the top does not count. */
const LINES_MAX = 60

function read(name: string): string { return readFileSync(path.join(ROOT, name), 'utf8') }

test('recipes: the page names each example, and nothing that is none', () => {
  const named = [...read('docs/recipes.md').matchAll(/^\*\*\[([\w-]+)\.ts\]\(\.\.\/examples\/\1\.ts\)\*\*: \S/gm)].map(([, name]) => name)
  assert.deepEqual(named.toSorted(), [...RECIPES, 'load-balancer'].toSorted())
})

for (const name of RECIPES) {
  test(`recipes: ${name} says how it is tried, is short, and has a test`, () => {
    const text = read(`examples/${name}.ts`)
    const [header = ''] = /^\/\*\*\n.*?\*\/\n/s.exec(text) ?? []
    assert.match(header, new RegExp(String.raw`^ \*   (?:[A-Z_]+=\S+ )*npx cirque run examples/${name}\.ts( |$)`, 'm'))
    assert.match(header, /^ \*   .*curl .*http:\/\/127\.0\.0\.1:6188\//m)
    assert.match(header, /^ \* Change /m)
    const lines = text.slice(header.length).split('\n').length - 1
    assert.ok(lines <= LINES_MAX, `${lines} lines`)
    assert.ok(existsSync(path.join(ROOT, `test/examples/${name}.test.ts`)))
  })
}
