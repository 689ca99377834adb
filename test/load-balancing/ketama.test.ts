import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import { Backend, parseBackend, type Candidates } from '../../src/load-balancing/backend.ts'
import { KetamaSelection } from '../../src/load-balancing/ketama.ts'
import { Turn, type Selector } from '../../src/load-balancing/selection.ts'

function candidates(texts: readonly string[]): Candidates {
  const specs = texts.map(text => parseBackend(text, 'test'))
  return { backends: specs.map(spec => new Backend({ ...spec, origin: spec.name })), weights: Uint16Array.from(specs, spec => spec.weight) }
}

/** The names of the candidates in the ring's order for a key. */
function order(selector: Selector, key: string, count = Infinity): string[] {
  const names: string[] = []
  const turn = new Turn()
  turn.begin(1000, null, backend => names.push(backend.name) >= count)
  selector.pick(key, turn)
  return names
}

/** The ring as the description of nginx has it, written down without any thought of speed. */
function slowRing(from: Candidates): { place: number; name: string }[] {
  const points: { place: number; name: string }[] = []
  for (const [index, backend] of from.backends.entries()) {
    const address = backend.peerAddress
    const base = address.kind === 'unix' ? `${address.path}\0` : backend.name.replace(/:(\d+)$/u, '\0$1')
    const previous = Buffer.alloc(4)
    for (let i = 0; i < from.weights[index]! * 160; i++) {
      const place = crc32(Buffer.concat([Buffer.from(base), previous]))
      points.push({ place, name: backend.name })
      previous.writeUInt32LE(place)
    }
  }
  points.sort((a, b) => a.place - b.place)
  return points.filter((point, index) => index === 0 || points[index - 1]!.place !== point.place)
}

function slowOrder(ring: readonly { place: number; name: string }[], key: string): string[] {
  const place = crc32(key)
  const start = Math.max(ring.findIndex(point => point.place >= place), 0)
  return [...new Set([...ring.slice(start), ...ring.slice(0, start)].map(point => point.name))]
}

const POOL = [
  '10.0.0.1:80', '10.0.0.2:80', '10.0.0.3:8080', 'origin-a.example:443', 'origin-b.example:443', '[2001:db8::1]:80',
  '[::1]:9000', 'unix:/run/a.sock', 'unix:/run/b.sock',
]
const someBackends = fc.shuffledSubarray(POOL, { minLength: 1 }).chain(names => {
  const oneEach = { minLength: names.length, maxLength: names.length }
  const someWeights = fc.array(fc.integer({ min: 1, max: 4 }), oneEach)
  return someWeights.map(weights => names.map((name, i) => `${name} weight=${weights[i]}`))
})

test('ketama: the order for a key is that of the published ring, every kind of address and weight included', () => {
  const someKeys = fc.array(fc.string({ unit: 'grapheme-ascii', minLength: 1 }), { minLength: 5, maxLength: 5 })
  fc.assert(fc.property(someBackends, someKeys, (texts, keys) => {
    const from = candidates(texts)
    const ring = slowRing(from)
    const selector = new KetamaSelection().build(from)
    for (const key of keys) assert.deepEqual(order(selector, key), slowOrder(ring, key))
  }), { numRuns: 30 })
})

test('ketama: keys at, before and behind every point find the same as a search through all points', () => {
  const from = candidates(['a:1', 'b:1 weight=2', 'c:1'])
  const ring = slowRing(from)
  const selector = new KetamaSelection().build(from)
  // Four bytes can be found for any CRC-32; the bytes for `place` are those that a table-driven run backwards gives.
  for (const point of [ring[0]!, ring[100]!, ring.at(-1)!]) {
    for (const place of [point.place - 1, point.place, point.place + 1]) {
      const key = bytesWithCrc32(place)
      assert.equal(crc32(key), place)
      const turn = new Turn()
      turn.begin(10, null, null)
      const expected = ring.find(other => other.place >= place) ?? ring[0]!
      assert.equal(selector.pick(key, turn)?.name, expected.name)
    }
  }
})

test('ketama: when a backend leaves, only its own keys move, and all keys share by weight', () => {
  fc.assert(fc.property(fc.shuffledSubarray(POOL, { minLength: 3 }), fc.nat(), (names, leaver) => {
    const gone = names[leaver % names.length]!
    const before = new KetamaSelection().build(candidates(names))
    const after = new KetamaSelection().build(candidates(names.filter(name => name !== gone)))
    let moved = 0
    for (let i = 0; i < 2000; i++) {
      const [first, second] = order(before, `key ${i}`, 2)
      const [now] = order(after, `key ${i}`, 1)
      if (first === gone) {
        assert.equal(now, second)
        moved++
      } else assert.equal(now, first)
    }
    assert.ok(moved < (2000 / names.length) * 1.6, `${moved} of 2000 keys belonged to one of ${names.length}`)
  }), { numRuns: 15 })
})

test('ketama: a backend of twice the weight has about twice the keys', () => {
  const selector = new KetamaSelection().build(candidates(['a:1', 'b:1 weight=2', 'c:1 weight=4']))
  const counts = new Map<string, number>()
  for (let i = 0; i < 14_000; i++) {
    const [name] = order(selector, `k${i}`, 1)
    counts.set(name!, (counts.get(name!) ?? 0) + 1)
  }
  for (const [name, share] of [['a:1', 2000], ['b:1', 4000], ['c:1', 8000]] as const) {
    assert.ok(Math.abs(counts.get(name)! - share) < share * 0.25, `${name} has ${counts.get(name)} keys instead of ${share}`)
  }
})

test('ketama: a set that needs more points than the limit is refused, and the limits themselves are checked', () => {
  assert.throws(
    () => new KetamaSelection().build(candidates(['a:1 weight=65535'])),
    /ketama\.maxPoints is 4194304 and the backends need 10485600/u,
  )
  assert.throws(() => new KetamaSelection({ pointsPerWeight: 0 }), /ketama\.pointsPerWeight is 0; use a positive whole number/u)
})

/** Four bytes whose CRC-32 is `wanted`: the register is run backwards over bytes that turn out as needed. */
function bytesWithCrc32(wanted: number): Buffer {
  const table = Array.from({ length: 256 }, (_, byte) => {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
    return crc >>> 0
  })
  let register = ~wanted >>> 0
  const indices: number[] = []
  for (let i = 0; i < 4; i++) {
    const index = table.findIndex(entry => entry >>> 24 === register >>> 24)
    indices.unshift(index)
    register = ((register ^ table[index]!) << 8) >>> 0
  }
  let forward = 0xffffffff
  return Buffer.from(indices.map(index => {
    const byte = (forward ^ index) & 0xff
    forward = ((forward >>> 8) ^ table[index]!) >>> 0
    return byte
  }))
}
