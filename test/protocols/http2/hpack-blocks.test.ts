/**
 * 100,000 header lists through encoders: what nghttp2 made of them, kept as data, is read as it was meant; and what ours makes of them
 * comes back, with tables that change their size.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { HpackDecoder } from '../../../src/protocols/http2/hpack-decoder.ts'
import { HpackEncoder } from '../../../src/protocols/http2/hpack-encoder.ts'
import { headerLists, LISTS, SEED, type HeaderList } from './header-lists.ts'

const FILE = path.join(import.meta.dirname, 'data/nghttp2-blocks.gz')

/** Holds that a block says what the list does. @param at which one it is, for the message */
function check(decoder: HpackDecoder, block: Buffer, from: number, to: number, { fields }: HeaderList, at: number): void {
  let read = 0
  const isBlock = decoder.decode(block, from, to, {
    onField({ name, value }) {
      const meant = fields[read++]
      if (name !== meant?.[0] || value !== meant[1]) assert.deepEqual([name, value], meant?.slice(0, 2), `field ${read} of list ${at}`)
    },
  })
  assert.ok(isBlock, `list ${at} is a block`)
  assert.equal(read, fields.length, `list ${at} has all of its fields`)
}

test('hpack decoder: what nghttp2 made of 100,000 lists is read as it was meant', () => {
  const bytes = gunzipSync(readFileSync(FILE))
  let decoder = new HpackDecoder(), from = 0, lists = 0
  for (const list of headerLists(LISTS, SEED)) {
    let length = 0
    for (let shift = 0, more = true; more; shift += 7) {
      const byte = bytes[from++]!
      length |= (byte & 0x7f) << shift
      more = byte > 0x7f
    }
    if (list.begins) decoder = new HpackDecoder()
    check(decoder, bytes, from, from + length, list, lists++)
    from += length
  }
  assert.deepEqual([lists, from], [100_000, bytes.length])
})

test('hpack encoder: 100,000 lists come back, and both tables stay alike', () => {
  let encoder = new HpackEncoder(), decoder = new HpackDecoder(), lists = 0, plainBytes = 0, codedBytes = 0
  for (const list of headerLists(LISTS, SEED)) {
    if (list.begins) {
      encoder = new HpackEncoder()
      decoder = new HpackDecoder()
    }
    if (list.tableBytes !== -1) encoder.limitTable(list.tableBytes)
    encoder.length = 0
    encoder.begin()
    for (const [name, value] of list.fields) {
      encoder.field(name, value)
      plainBytes += name.length + value.length + 2
    }
    check(decoder, encoder.bytes, 0, encoder.length, list, lists++)
    codedBytes += encoder.length
    if (encoder.size !== decoder.size) assert.equal(encoder.size, decoder.size, `tables behind list ${lists - 1}`)
  }
  assert.ok(codedBytes * 2 < plainBytes, `${codedBytes} bytes for ${plainBytes}`)
})
