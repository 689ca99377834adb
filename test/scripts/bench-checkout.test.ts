import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { faultOfCheckout } from '../../scripts/bench/checkout.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

function place(root: string, file: string, text = ''): void {
  mkdirSync(path.dirname(path.join(root, file)), { recursive: true })
  writeFileSync(path.join(root, file), text)
}

test('bench checkout: each thing that keeps a folder from being run is named, until nothing is missing', async (t) => {
  const root = temporaryFolder(t)
  assert.match(faultOfCheckout(path.join(root, 'absent')) ?? '', /no folder/)
  assert.match(faultOfCheckout(root) ?? '', /no checkout of Cirque/)
  place(root, 'package.json', '{ "name": "other" }')
  assert.match(faultOfCheckout(root) ?? '', /no checkout of Cirque/)
  place(root, 'package.json', '{ "name": "cirque", "dependencies": { "pino": "1.0.0" } }')
  place(root, 'src/index.ts')
  place(root, 'bin/cirque')
  assert.match(faultOfCheckout(root) ?? '', /has no scripts\/bench\/app\.ts/)
  place(root, 'scripts/bench/app.ts')
  assert.match(faultOfCheckout(root) ?? '', /lacks the package pino; run npm ci there/)
  mkdirSync(path.join(root, 'node_modules', 'pino'), { recursive: true })
  assert.equal(faultOfCheckout(root), null)
})

test('bench checkout: a file where a folder should be, and a package.json that is no JSON, are refused as well', (t) => {
  const root = temporaryFolder(t)
  place(root, 'package.json', '{')
  assert.match(faultOfCheckout(root) ?? '', /no checkout of Cirque/)
  assert.match(faultOfCheckout(path.join(root, 'package.json')) ?? '', /no folder/)
})
