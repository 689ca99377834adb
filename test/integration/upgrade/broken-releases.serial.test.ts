/**
 * Releases that are no good, each in its own way: whoever asked is told why, everything is as it was, and no client has
 * noticed anything but, at worst, wrong answers of the first new worker.
 */
import '../../support/no-process-left.ts'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import type { ReleaseFault } from '../../support/release-folder.ts'
import { pidsOf, ReleasedApp } from '../../support/released-app.ts'
import { UpgradeLoad } from '../../support/upgrade-load.ts'

const LINUX_ONLY = { skip: process.platform !== 'linux' }

interface Broken { readonly fault: ReleaseFault; readonly result: 'refused' | 'rolled-back'; readonly reason: RegExp }

const BROKEN: readonly Broken[] = [
  { fault: 'throws at import', result: 'refused', reason: /two has no licence file/ },
  { fault: 'hangs at import', result: 'refused', reason: /3000 ms/ },
  { fault: 'throws at start', result: 'rolled-back', reason: /no new worker came up in slot 0: two finds no database/ },
  { fault: 'is never ready', result: 'rolled-back', reason: /no new worker came up in slot 0: not ready within 3000 ms/ },
  {
    fault: 'exits after ready', result: 'rolled-back',
    reason: /worker 2\.0\.1 (?:died|could not be run): ended with code 7|the new worker could not accept/,
  },
  {
    fault: 'hangs after ready', result: 'rolled-back',
    reason: /the self-test of worker 2\.0\.1 could not be run: self-test: no answer within \d+ ms/,
  },
  { fault: 'fails the self-test', result: 'rolled-back', reason: /worker 2\.0\.1 failed its self-test: GET \/ answered 500, expected/ },
]

for (const { fault, result, reason } of BROKEN) {
  test(`upgrade: a release that ${fault} is ${result}, and nobody notices`, LINUX_ONLY, async t => {
    const server = await ReleasedApp.start(t, { describeTimeoutMs: 3_000, readyTimeoutMs: 3_000, ackTimeoutMs: 1_000 })
    const two = server.root.add('two', { fault })
    const before = pidsOf(await server.status())
    const load = await UpgradeLoad.start(t, server)
    const { code, stderr } = await server.cirque('upgrade', two)
    assert.equal(code, 1, stderr)
    t.diagnostic(stderr.trim())
    assert.match(stderr, reason)
    assert.match(
      stderr,
      result === 'refused' ? /^cirque: upgrade-1: refused, nothing was changed: /
        : /^cirque: upgrade-1: rolled back, everything is as it was: /,
    )
    await load.goesOn()
    const { answeredBy } = await load.losesNothing()
    assert.deepEqual(Object.keys(answeredBy).filter(who => !who.startsWith('one ')), [])
    const status = await server.settled()
    assert.deepEqual(pidsOf(status), before)
    assert.deepEqual([server.root.current, status.generation, status.release], ['one', 1, server.root.folderOf('one')])
  })
}

test('upgrade: a release that answers clients with 5xx is rolled back, and only its first worker answered wrongly', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t, { upgrade: { soakMs: 5_000 } })
  const two = server.root.add('two', { fault: 'answers 5xx' })
  const before = pidsOf(await server.status())
  const load = await UpgradeLoad.start(t, server)
  const { result, reason } = await server.upgrade(two)
  assert.equal(result, 'rolled-back')
  assert.match(reason, /^new workers answered \d+ of \d+ requests with an error of their own, old ones 0 %$/)
  assert.deepEqual(server.app.lines.filter(({ msg }) => /^worker 2\.[^0]/.test(msg)), [])
  // What it had accepted it answers to the end, wrongly.
  await server.settled()
  const wrong = load.wrong
  await load.goesOn()
  assert.deepEqual(pidsOf(await server.status()), before)
  assert.equal(server.root.current, 'one')
  assert.equal((await server.upgrade(server.root.add('three'))).result, 'committed')
  await load.goesOn()
  await load.losesNothing(/wrong .*: status 500$|^witness: wrong answer$/)
  assert.ok(wrong > 0)
  assert.equal(load.wrong, wrong, 'nothing is wrong after the roll-back')
})

test('upgrade: a release that brings a wrong configuration is refused before `current` leads to it', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t, { drain: { webSocketDrainMs: 200 } }, { config: 'current/app.yaml' })
  const good = fs.readFileSync(path.join(server.root.folderOf('one'), 'app.yaml'), 'utf8')
  const bring = (name: string, text: string): string => {
    const folder = server.root.add(name)
    if (text !== '') fs.writeFileSync(path.join(folder, 'app.yaml'), text)
    return folder
  }
  const before = pidsOf(await server.status())
  const load = await UpgradeLoad.start(t, server)
  for (const [name, text, complaint] of [
    ['two', good.replace('"workers":"2"', '"workers":"0"'), /two\/app\.yaml:1:\d+: supervisor\.workers: found/],
    ['three', `${good.slice(0, -1)},"surprise":{}}`, /three\/app\.yaml:1:\d+: surprise: found an unknown key/],
    ['four', good.slice(0, -20), /four\/app\.yaml:1:\d+: found/],
    ['five', good.replace('"listeners":{}', '"listeners":{"nobody":{}}'), /nobody/],
    ['six', '', /six\/app\.yaml: found no such file/],
  ] as const) {
    assert.notEqual(text, good)
    const { code, stderr } = await server.cirque('upgrade', bring(name, text))
    assert.equal(code, 2, stderr)
    assert.match(stderr, /^cirque: upgrade-\d: refused, nothing was changed: /)
    assert.match(stderr, complaint)
    assert.equal(server.root.current, 'one')
  }
  assert.deepEqual(pidsOf(await server.settled()), before)

  // What a release brings holds as long as it is the one that serves.
  assert.equal((await server.upgrade(bring('seven', good.replace('"workers":"2"', '"workers":"3"')))).result, 'committed')
  assert.deepEqual([server.root.current, pidsOf(await server.settled(3)).length], ['seven', 3])
  assert.equal((await server.operate({ tag: 'rollback' })).result, 'committed')
  assert.deepEqual([server.root.current, pidsOf(await server.settled()).length], ['one', 2])
  await load.losesNothing()
})

test('upgrade: a reload with a configuration that is wrong changes nothing and says what is wrong', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t)
  const before = pidsOf(await server.status())
  const load = await UpgradeLoad.start(t, server)
  const file = path.join(server.root.folder, 'app.yaml')
  const good = fs.readFileSync(file, 'utf8')
  for (const [text, complaint] of [
    [good.replace('"workers":"2"', '"workers":"0"'), /workers/],
    [`${good.slice(0, -1)},"surprise":{}}`, /surprise/],
    [good.slice(0, -20), /app\.yaml/],
  ] as const) {
    assert.notEqual(text, good)
    fs.writeFileSync(file, text)
    const { code, stderr } = await server.cirque('reload')
    assert.equal(code, 2, stderr)
    assert.match(stderr, /refused, nothing was changed: /)
    assert.match(stderr, complaint)
  }
  assert.deepEqual(pidsOf(await server.settled()), before)
  fs.writeFileSync(file, good)
  assert.equal((await server.cirque('reload')).code, 0)
  await load.losesNothing()
})
