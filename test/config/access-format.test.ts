import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  ACCESS_FIELDS, ACCESS_FORMAT_REMEDY, ACCESS_FORMATS, accessFormatRemedy, MADE_FIELDS, MAX_TEMPLATE_FIELDS, MAX_TEMPLATE_LENGTH,
  parseTemplate,
} from '../../src/config/access-format.ts'
import { LOG_OPTIONS } from '../../src/config/log-options.ts'

test('access format: a template is texts and fields, in order', () => {
  const field = (name: string, key = ''): object => ({ field: name, key })
  const table: readonly (readonly [string, readonly (string | object)[]])[] = [
    ['$status', [field('status')]],
    ['$client - $method', [field('client'), ' - ', field('method')]],
    ['"$ua" $$5', ['"', field('ua'), '" $5']],
    ['${status}ms$dur_ms', [field('status'), 'ms', field('dur_ms')]],
    ['$path.gz', [field('path'), '.gz']],
    ['$app.tenant|$app|${app.n}', [field('app', 'tenant'), '|', field('app'), '|', field('app', 'n')]],
    ['$ts\\t$request\\t$time_local', [field('ts'), '\t', field('request'), '\t', field('time_local')]],
  ]
  for (const [template, parts] of table) assert.deepEqual(parseTemplate(template), parts, template)
})

test('access format: what is no format is refused with what would do', () => {
  const names = [...ACCESS_FIELDS, ...MADE_FIELDS].map(name => `$${name}`).join(' ')
  const table: readonly (readonly [string, string])[] = [
    ['jsn', 'json'], ['combine', 'combined'], ['', ACCESS_FORMAT_REMEDY], ['apache', ACCESS_FORMAT_REMEDY],
    ['$client $stauts', '$status in the place of $stauts'],
    ['${referrer}', '$referer in the place of ${referrer}'],
    ['$remote_addr', `one of ${names} in the place of $remote_addr`],
    ['$ status', 'the name of a field behind each $, or $$ for the sign itself'],
    ['$status ${}', 'the name of a field behind each $, or $$ for the sign itself'],
    ['$status $', 'the name of a field behind each $, or $$ for the sign itself'],
    ['${app.Tenant}', '$app.name in the place of ${app.Tenant}, where a hook has named it'],
    ['${status.x}', '$app.name in the place of ${status.x}, where a hook has named it'],
    ['$$', 'a template with at least one field, such as $status'],
    ['$status\u00E9', 'a template of printable ASCII, with \\t where a tab is wanted'],
    ['$status'.padEnd(MAX_TEMPLATE_LENGTH + 1), `a template of at most ${MAX_TEMPLATE_LENGTH} characters`],
    ['$w'.repeat(MAX_TEMPLATE_FIELDS + 1), `at most ${MAX_TEMPLATE_FIELDS} fields`],
  ]
  for (const [format, remedy] of table) assert.equal(accessFormatRemedy(format), remedy, format)
  for (const format of [...ACCESS_FORMATS, '$w'.repeat(MAX_TEMPLATE_FIELDS), '$status'.padEnd(MAX_TEMPLATE_LENGTH)]) {
    assert.equal(accessFormatRemedy(format), '', format)
  }
  assert.equal(LOG_OPTIONS.accessFormat.check('$client $stauts'), '$status in the place of $stauts')
})

test('access format: each field that a line has can be named', () => {
  for (const name of ACCESS_FIELDS) assert.deepEqual(parseTemplate(`$${name}`), [{ field: name, key: '' }])
})

test('access format: whatever is written is either a template or refused, and text without a $ goes through as it is', () => {
  const sign = fc.constantFrom('$', '{', '}', '.', '\\t', '$$', ...ACCESS_FIELDS)
  const piece = fc.oneof(sign, fc.string({ unit: 'grapheme-ascii', maxLength: 4 }))
  fc.assert(fc.property(fc.array(piece, { maxLength: 12 }), pieces => {
    const parts = parseTemplate(pieces.join(''))
    assert.ok(typeof parts === 'string' ? parts !== '' : parts.some(part => typeof part !== 'string'))
  }))
  fc.assert(fc.property(fc.stringMatching(/^[ -#%-[\]-~]*$/), text => {
    assert.deepEqual(parseTemplate(`${text}$status`), text === '' ? [{ field: 'status', key: '' }] : [text, { field: 'status', key: '' }])
  }))
})
