/**
 * `node scripts/hpack/main.ts`: makes test/protocols/http2/data/nghttp2-blocks.gz anew, what nghttp2 makes of the lists of
 * test/protocols/http2/header-lists.ts. Only where those change; it takes a C compiler and nghttp2's headers (`apt-get install gcc
 * libnghttp2-dev`).
 *
 * In the file each block stands behind its length, of which a byte has seven bits, the lowest first.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { gzipSync } from 'node:zlib'
import { headerLists, LISTS, SEED, type HeaderList } from '../../test/protocols/http2/header-lists.ts'

const FILE = path.join(import.meta.dirname, '../../test/protocols/http2/data/nghttp2-blocks.gz')
const MAX_OUTPUT_BYTES = 268_435_456

/** As deflate.c reads it. */
function packed({ begins, tableBytes, fields }: HeaderList): Buffer {
  const head = Buffer.alloc(tableBytes === -1 ? 3 : 7)
  head[0] = (begins ? 1 : 0) | (tableBytes === -1 ? 0 : 2)
  if (tableBytes !== -1) head.writeUInt32BE(tableBytes, 1)
  head.writeUInt16BE(fields.length, head.length - 2)
  return Buffer.concat([head, ...fields.flatMap(([name, value, secret]) => {
    const lengths = Buffer.from([secret ? 1 : 0, 0, 0, 0, 0])
    lengths.writeUInt16BE(name.length, 1)
    lengths.writeUInt16BE(value.length, 3)
    return [lengths, Buffer.from(name, 'latin1'), Buffer.from(value, 'latin1')]
  })])
}

function lengthOf(block: Buffer): Buffer {
  const bytes: number[] = []
  let left = block.length
  for (; left > 0x7f; left >>>= 7) bytes.push(0x80 | (left & 0x7f))
  return Buffer.from([...bytes, left])
}

const folder = mkdtempSync(path.join(os.tmpdir(), 'cirque-hpack-')), program = path.join(folder, 'deflate')
try {
  execFileSync('cc', ['-O2', '-o', program, path.join(import.meta.dirname, 'deflate.c'), '-lnghttp2'], { stdio: 'inherit' })
  const input = Buffer.concat(Array.from(headerLists(LISTS, SEED), packed))
  const output = execFileSync(program, [], { input, maxBuffer: MAX_OUTPUT_BYTES }), parts: Buffer[] = []
  for (let at = 0; at < output.length;) {
    const block = output.subarray(at + 4, at + 4 + output.readUInt32BE(at))
    parts.push(lengthOf(block), block)
    at += 4 + block.length
  }
  const gzip = gzipSync(Buffer.concat(parts), { level: 9 })
  writeFileSync(FILE, gzip)
  console.log(`${parts.length / 2} blocks, ${output.length} bytes, ${gzip.length} in ${path.basename(FILE)}`)
} finally {
  rmSync(folder, { recursive: true })
}
