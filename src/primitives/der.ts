/**
 * Writes DER, the one encoding of ASN.1 that certificates are signed over (ITU-T X.690, sections 8 and 10): what certificates,
 * revocation lists and signing requests are made of, and nothing else of ASN.1. Values go in, finished elements come out, and a
 * larger one is made of them from the inside outwards.
 *
 * Invariant: what comes out is the only encoding that DER has for the value: lengths and integers are as short as they can be,
 * bits that mean nothing are 0, and the elements of a set are in order.
 * Reads nothing: what is read of certificates is read by `X509Certificate`.
 */
import { isIP } from 'node:net'

const Tag = {
  Boolean: 0x01, Integer: 0x02, BitString: 0x03, OctetString: 0x04, Null: 0x05, ObjectIdentifier: 0x06, Enumerated: 0x0a, Utf8String: 0x0c,
  PrintableString: 0x13, Ia5String: 0x16, UtcTime: 0x17, GeneralizedTime: 0x18, Sequence: 0x30, Set: 0x31,
  Context: 0x80, ContextConstructed: 0xa0,
} as const
/** A larger number of a tag needs more than one byte; nothing here has one. */
const MAX_CONTEXT_NUMBER = 30
/** RFC 5280, 4.1.2.5: years up to 2049 are UTCTime, later ones GeneralizedTime. */
const FIRST_GENERALIZED_YEAR = 2050
const UNUSED_BITS_MAX = 7

function element(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  let length = 0
  for (const content of contents) length += content.length
  return Buffer.concat([Buffer.from([tag]), derLength(length), ...contents])
}

/** The bytes of a length: itself below 128, else how many bytes follow and these. */
export function derLength(length: number): Buffer {
  if (!Number.isSafeInteger(length) || length < 0) throw new RangeError(`${length} is no length`)
  if (length < 0x80) return Buffer.from([length])
  const bytes = unsignedBytes(BigInt(length))
  return Buffer.from([0x80 | bytes.length, ...bytes])
}

/** Highest byte first, none of them in front without need; 0 is one byte. */
function unsignedBytes(value: bigint): Buffer {
  const digits = value.toString(16)
  return Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, 'hex')
}

export function derSequence(...elements: readonly Uint8Array[]): Buffer { return element(Tag.Sequence, ...elements) }

/** A set: its elements in ascending order of their bytes, whatever order they come in. */
export function derSet(...elements: readonly Uint8Array[]): Buffer {
  return element(Tag.Set, ...elements.toSorted((left, right) => Buffer.compare(left, right)))
}

export function derBoolean(value: boolean): Buffer { return element(Tag.Boolean, Buffer.from([value ? 0xff : 0])) }

export function derNull(): Buffer { return element(Tag.Null) }

/** Two's complement, in as few bytes as can be. */
export function derInteger(value: number | bigint): Buffer { return element(Tag.Integer, integerBytes(BigInt(value))) }

export function derEnumerated(value: number): Buffer { return element(Tag.Enumerated, integerBytes(BigInt(value))) }

function integerBytes(value: bigint): Buffer {
  if (value < 0n) {
    let bytes = 1
    while (value < -(1n << BigInt(8 * bytes - 1))) bytes++
    return unsignedBytes((1n << BigInt(8 * bytes)) + value)
  }
  const bytes = unsignedBytes(value)
  // The highest bit is the sign.
  return bytes[0]! >= 0x80 ? Buffer.concat([Buffer.of(0), bytes]) : bytes
}

/** @param dotted such as '2.5.29.17' */
export function derObjectIdentifier(dotted: string): Buffer {
  if (!/^[0-2](\.(0|[1-9]\d*))+$/.test(dotted)) {
    throw new TypeError(`'${dotted}' is no object identifier; write numbers with dots, as 2.5.29.17`)
  }
  const [first = 0n, second = 0n, ...rest] = dotted.split('.').map(BigInt)
  if (first < 2n && second > 39n) throw new TypeError(`'${dotted}' is no object identifier: below 2 the second number ends at 39`)
  const bytes: number[] = []
  for (const arc of [first * 40n + second, ...rest]) {
    const groups = [Number(arc & 0x7fn)]
    for (let left = arc >> 7n; left > 0n; left >>= 7n) groups.unshift(Number(left & 0x7fn) | 0x80)
    bytes.push(...groups)
  }
  return element(Tag.ObjectIdentifier, Buffer.from(bytes))
}

/** @param unused how many bits at the end of the last byte mean nothing */
export function derBitString(bytes: Uint8Array, unused = 0): Buffer {
  if (unused < 0 || unused > UNUSED_BITS_MAX || (bytes.length === 0 && unused > 0)) throw new RangeError(`${unused} bits cannot be unused`)
  const copy = Buffer.from(bytes)
  if (unused > 0) copy[copy.length - 1]! &= 0xff << unused
  return element(Tag.BitString, Buffer.of(unused), copy)
}

/**
 * A bit string whose bits have names (X.680, 22.7): the first bit is the highest of the first byte, and bits behind the last
 * that is set are left out.
 */
export function derNamedBits(...set: readonly number[]): Buffer {
  if (set.length === 0) return derBitString(Buffer.alloc(0))
  const last = Math.max(...set)
  const bytes = Buffer.alloc((last >> 3) + 1)
  for (const bit of set) bytes[bit >> 3]! |= 0x80 >> (bit & 7)
  return derBitString(bytes, 7 - (last & 7))
}

/** @param parts joined into one */
export function derOctetString(...parts: readonly Uint8Array[]): Buffer { return element(Tag.OctetString, ...parts) }

export function derUtf8String(text: string): Buffer { return element(Tag.Utf8String, Buffer.from(text, 'utf8')) }

/** @throws TypeError for a character that its alphabet does not have */
export function derPrintableString(text: string): Buffer {
  if (!/^[A-Za-z0-9 '()+,\-./:=?]*$/.test(text)) throw new TypeError(`'${text}' has characters that a PrintableString does not have`)
  return element(Tag.PrintableString, Buffer.from(text, 'latin1'))
}

/** @throws TypeError for a character that is not ASCII */
export function derIa5String(text: string): Buffer { return element(Tag.Ia5String, asciiBytes(text)) }

function asciiBytes(text: string): Buffer {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) throw new TypeError(`'${text}' is not ASCII; write names as xn--`)
  return Buffer.from(text, 'latin1')
}

/** A moment, to the second, in the form that its year has (RFC 5280, 4.1.2.5). */
export function derTime(moment: Date): Buffer {
  const year = moment.getUTCFullYear()
  if (!(year >= 1950 && year <= 9999)) throw new RangeError(`${String(moment)} cannot be written into a certificate; 1950 to 9999 can`)
  const digits = `${moment.toISOString().slice(0, 'YYYY-MM-DDTHH:MM:SS'.length).replaceAll(/[-:T]/g, '')}Z`
  if (year >= FIRST_GENERALIZED_YEAR) return element(Tag.GeneralizedTime, asciiBytes(digits))
  return element(Tag.UtcTime, asciiBytes(digits.slice('YY'.length)))
}

/** `[number] EXPLICIT`: a tag around whole elements. */
export function derExplicit(number: number, ...elements: readonly Uint8Array[]): Buffer {
  return element(Tag.ContextConstructed | contextNumber(number), ...elements)
}

/** `[number] IMPLICIT` of a primitive type: the tag in place of the type's own, around the value's bytes. */
export function derImplicit(number: number, content: Uint8Array | string): Buffer {
  return element(Tag.Context | contextNumber(number), typeof content === 'string' ? asciiBytes(content) : content)
}

function contextNumber(number: number): number {
  if (!Number.isInteger(number) || number < 0 || number > MAX_CONTEXT_NUMBER) throw new RangeError(`${number} is no number of a tag`)
  return number
}

/** The four or sixteen bytes of an IP address, as certificates name it. @throws TypeError when it is none, or has a zone */
export function addressBytes(address: string): Buffer {
  const version = isIP(address)
  if (version === 4) return Buffer.from(address.split('.').map(Number))
  if (version !== 6 || address.includes('%')) throw new TypeError(`'${address}' is no IP address`)
  // The last 32 bits may be written as an IPv4 address.
  const dotted = /\d+\.\d+\.\d+\.\d+$/.exec(address)?.[0]
  const low = dotted === undefined ? '' : addressBytes(dotted).toString('hex').replace(/^.{4}/, '$&:')
  const plain = dotted === undefined ? address : address.slice(0, -dotted.length) + low
  const [head = '', tail = ''] = plain.split('::')
  const before = groupsOf(head), after = groupsOf(tail)
  const groups = [...before, ...Array.from({ length: 8 - before.length - after.length }, () => 0), ...after]
  return Buffer.from(groups.flatMap(group => [group >> 8, group & 0xff]))
}

function groupsOf(text: string): number[] { return text === '' ? [] : text.split(':').map(group => Number.parseInt(group, 16)) }

/** @param label such as 'CERTIFICATE' */
export function pemOf(label: string, der: Uint8Array): string {
  const lines = Buffer.from(der).toString('base64').match(/.{1,64}/g) ?? []
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n')
}
