/** Applications that never come to their server, in the process that describes them. The other ones are in test/errors. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import path from 'node:path'
import test from 'node:test'
import { pathToFileURL } from 'node:url'
import { resolveSupervisorOptions } from '../../src/config/supervisor-options.ts'
import { errorText } from '../../src/errors/code-frame.ts'
import { describe } from '../../supervisor/commands/chosen-application.ts'
import { DescribeFailed } from '../../supervisor/describe-application.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

const ENDED = 'the application ended without calling server.runForever()'
const LATE_MS = 1_500

/** FOLDER stands for the one that the application is in. */
const NEVER: readonly (readonly [app: string, says: string])[] = [
  ['console.log(1)', `${ENDED}; let its last line be \`await server.runForever()\``],
  [
    'export default { upstreamPeer() {} }',
    `${ENDED}; a default export is run by nobody: make a Server of it, and end with \`await server.runForever()\``,
  ],
  ['process.exit(4)', `${ENDED}: it called process.exit(4)`],
  ['process.kill(process.pid, \'SIGKILL\')\nsetInterval(() => {}, 1000)', 'it was ended by SIGKILL'],
  [
    'const one = 1\nawait new Promise(() => {})\nawait server.runForever()',
    'the application waits for a promise that nothing settles, before it calls server.runForever(); it awaits in line 2',
  ],
  [
    `Promise.reject(new Error('forgotten'))\nawait new Promise(resolve => setTimeout(resolve, 100))`,
    [
      'forgotten', 'FOLDER/app.ts:1:16', `> 1 | Promise.reject(new Error('forgotten'))`, '    |                ^',
      '  2 | await new Promise(resolve => setTimeout(resolve, 100))', '    at FOLDER/app.ts:1:16',
    ].join('\n'),
  ],
]

async function saidOf(folder: string, app: string, describeTimeoutMs: number): Promise<string> {
  writeTree(folder, { 'package.json': '{ "type": "module" }', 'app.ts': app })
  const file = path.join(folder, 'app.ts')
  try {
    await describe(file, [], resolveSupervisorOptions({ describeTimeoutMs }))
    return 'nothing'
  } catch (error) {
    assert.ok(error instanceof DescribeFailed)
    const text = errorText(error.message, error.applicationStack).replace(`${file} could not be loaded: `, '')
    return text.replaceAll(pathToFileURL(folder).href, 'FOLDER').replaceAll(path.relative('', folder), 'FOLDER')
  }
}

test('describe: an application that never comes to its server is told why, and what would do', async t => {
  await Promise.all(NEVER.map(async ([app, says]) => { assert.equal(await saidOf(temporaryFolder(t), app, 60_000), says) }))
})

test('describe: one that takes too long is told what it may wait for', async t => {
  const why = 'it may await what never comes, or call server.start(), which is for programs and tests of your own'
  const said = await saidOf(temporaryFolder(t), 'setInterval(() => {}, 1000)', LATE_MS)
  assert.equal(said, `it did not reach server.runForever() within ${LATE_MS} ms; ${why}`)
})
