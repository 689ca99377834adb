/** The pages about hooks have a section for each of them, as the code declares it, with an example that uses it. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { SILENT_LOG } from '../../src/ipc/process-log.ts'
import { MODULE_HOOKS } from '../../src/modules/http-module.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import { HOOKS, type ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { Session } from '../../src/proxy/session.ts'
import { inject, type InjectOrigin } from '../../src/server/inject.ts'
import { pageBlocks } from '../support/page-blocks.ts'

const ROOT = path.join(import.meta.dirname, '../..')

interface Described { readonly page: string; readonly source: string; readonly declaration: string; readonly hooks: readonly string[] }

const DESCRIBED: readonly Described[] = [
  { page: 'docs/hooks.md', source: 'src/proxy/proxy-http.ts', declaration: 'ProxyHttp', hooks: HOOKS },
  { page: 'docs/modules.md', source: 'src/modules/http-module.ts', declaration: 'HttpModule', hooks: MODULE_HOOKS },
]

function textOf(file: string): string { return readFileSync(path.join(ROOT, file), 'utf8') }

/** `name?(a: A, b: B): MaybePromise<R>` as a page says it, by name. */
function signaturesOf(source: string, declaration: string): ReadonlyMap<string, string> {
  const [, body = ''] = new RegExp(`^export interface ${declaration}<.*?\\{\\n(.*?)^\\}`, 'ms').exec(textOf(source)) ?? []
  return new Map([...body.matchAll(/^ {2}(\w+)\??\((.*)\): (.*)$/gm)].map(([, name = '', parameters = '', type = '']) => {
    const names = [...parameters.matchAll(/(\w+): /g)].map(match => match[1]).join(', ')
    const [, awaited] = /^MaybePromise<(.*)>$/.exec(type) ?? []
    return [name, `\`${name}(${names}): ${awaited ?? type}\` · ${awaited === undefined ? 'answers at once' : 'may wait'}`]
  }))
}

/** Sections of the third level, in their order: heading, and what stands below it. */
function sectionsOf(page: string): [heading: string, lines: string[]][] {
  return textOf(page).split(/^### /m).slice(1).map(section => {
    const [heading = '', ...lines] = section.split(/^## /m)[0]!.trim().split('\n')
    return [heading, lines.filter(line => line !== '')]
  })
}

for (const { page, source, declaration, hooks } of DESCRIBED) {
  test(`pages: ${page} has the hooks of ${declaration}, in their order, each as it is declared`, () => {
    const sections = sectionsOf(page), signatures = signaturesOf(source, declaration)
    assert.deepEqual(sections.map(([heading]) => heading), hooks)
    for (const [hook, [signature, text = '']] of sections) {
      assert.equal(signature, signatures.get(hook), `${page}: ${hook}`)
      assert.ok(text.length > 80, `${page}: ${hook} has no text`)
    }
  })

  test(`pages: ${page} has an example of each hook, which prints what came of it`, () => {
    const samples = pageBlocks(ROOT, page).filter(({ language, text }) => language === 'ts' && text.includes('console.log('))
    for (const hook of hooks) {
      const used = new RegExp(`^ *(?:async )?${hook}(?:: |\\()`, 'm')
      assert.ok(samples.some(({ text }) => used.test(text)), `${page}: ${hook}`)
    }
  })
}

test('pages: docs/hooks.md has a row for each hook, which says what its section says', () => {
  const signatures = signaturesOf('src/proxy/proxy-http.ts', 'ProxyHttp')
  const rows = [...textOf('docs/hooks.md').matchAll(/^\| \[`(\w+)`\]\(#(\w+)\) \| .+ \| (yes|) \| (yes|) \|$/gm)]
  assert.deepEqual(rows.map(([, hook]) => hook), HOOKS)
  for (const [, hook = '', anchor, waits] of rows) {
    assert.equal(anchor, hook.toLowerCase())
    assert.equal(waits === 'yes', signatures.get(hook)!.endsWith('may wait'), hook)
  }
})

test('pages: docs/hooks.md says of each hook whether it may answer', async () => {
  const marked = [...textOf('docs/hooks.md').matchAll(/^\| \[`(\w+)`\].+\| yes \|$/gm)].map(([, hook]) => hook)
  const answering: string[] = []
  for (const hook of HOOKS) if (await mayAnswer(hook)) answering.push(hook)
  assert.deepEqual(marked, answering)
})

/** Whether a request whose `hook` alone answers with 299 is answered so. */
async function mayAnswer(hook: (typeof HOOKS)[number]): Promise<boolean> {
  const peer = new HttpPeer('127.0.0.1:1', { maxAttempts: 1 })
  // What has no session is no hook that could.
  const answers = (session: unknown): unknown => (session as Session | undefined)?.respond(299)
  const unanswered: ProxyHttp = { upstreamPeer: () => peer }
  const request = { method: 'POST', chunks: ['body'], trailers: { 'x-t': '1' }, headers: { te: 'trailers' } }
  const origin: InjectOrigin | null = hook === 'failToConnect' ? null : () => {
    if (hook === 'errorWhileProxy' || hook === 'failToProxy') throw new Error('planned')
    return { body: 'body', trailers: { 'x-t': '1' } }
  }
  try {
    return (await inject({ ...unanswered, [hook]: answers }, request, { origin, log: SILENT_LOG })).status === 299
  } catch {
    return false
  }
}

test('pages: docs/from-pingora.md leads to every hook', () => {
  const page = textOf('docs/from-pingora.md')
  for (const hook of HOOKS) assert.ok(page.includes(`[\`${hook}\`](hooks.md#${hook.toLowerCase()})`), hook)
})
