import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

const REPORT = path.join(import.meta.dirname, '../../scripts/test-report.ts')

/** Runs test files in a process of their own, as a run within a run is refused, and gives back what the report printed. */
function report(t: TestContext, files: Readonly<Record<string, string>>): string[] {
  const root = temporaryFolder(t)
  writeTree(root, { ...files, 'package.json': '{"type":"module"}', 'run.ts': `
    import { run } from 'node:test'
    import path from 'node:path'
    import { TestReport } from ${JSON.stringify(REPORT)}
    const report = new TestReport({ root: import.meta.dirname, print: line => console.log(line), verbose: false })
    for (const file of ${JSON.stringify(Object.keys(files))}) {
      for await (const event of run({ files: [path.join(import.meta.dirname, file)] })) report.take(event)
    }
    const skips = report.skipReasons.map(reason => 'SKIP ' + reason)
    for (const line of [...skips, ...report.closingLines(), 'failed ' + report.failed]) console.log(line)` })
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const { stdout, stderr } = spawnSync(process.execPath, [path.join(root, 'run.ts')], { encoding: 'utf8', env })
  assert.equal(stderr, '')
  return stdout.trimEnd().split('\n')
}

test('report: counts of several runs are summed in node\'s own words', t => {
  const lines = report(t, {
    'a.test.ts': `import test from "node:test"
test("one", () => {})
test("two", t => t.skip("nginx: not installed"))
test("three", { todo: true }, () => { throw new Error("later") })
`,
    'b.test.ts': `import test, { describe } from "node:test"
describe("s", () => { test("four", () => {}) })
test("two", { skip: true }, () => {})
`,
  })
  assert.match(lines[0] ?? '', /^ok {3}a\.test\.ts {2}3 tests {2}\d+\.\d s$/)
  assert.match(lines[1] ?? '', /^ok {3}b\.test\.ts {2}2 tests /)
  assert.deepEqual(lines.slice(2, -2), [
    'SKIP nginx: not installed', 'SKIP two: no reason given', '# tests 5', '# suites 1', '# pass 2', '# fail 0',
    '# cancelled 0', '# skipped 2', '# todo 1',
  ])
  assert.equal(lines.at(-1), 'failed false')
})

test('report: a failure is shown once, with its place, its message and what the file printed', t => {
  const lines = report(t, { 'a.test.ts': `import test from "node:test"
test("outer", async t => {
await t.test("inner", () => { console.log("said"); throw new Error("boom") })
})
` })
  assert.equal(lines[0], 'FAIL a.test.ts:3: inner')
  assert.equal(lines[1], '     Error: boom')
  assert.equal(lines.filter(line => line.includes('boom')).length, 1)
  assert.ok(lines.includes('     | said'))
  assert.ok(!lines.some(line => line.includes('node:internal/test_runner')))
  assert.ok(lines.some(line => /^FAIL a\.test\.ts {2}2 tests/.test(line)))
  assert.equal(lines.at(-1), 'failed true')
})

test('report: a file that cannot be loaded, or ends by itself, is a failure', t => {
  const lines = report(t, {
    'a.test.ts': 'import "./gone.ts"\n',
    'b.test.ts': `import test from "node:test"
  test("x", () => {})
  setTimeout(() => process.exit(3), 20)
  test("never", () => new Promise(() => {}))
  `,
  })
  assert.ok(lines.some(line => line.startsWith('FAIL a.test.ts:1: ')))
  assert.ok(lines.some(line => line.includes('ERR_MODULE_NOT_FOUND')))
  assert.ok(lines.some(line => line.startsWith('FAIL b.test.ts')))
  assert.equal(lines.at(-1), 'failed true')
})
