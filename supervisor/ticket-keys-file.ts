/**
 * The file with the keys of session tickets that machines of a fleet have in common (`tls.ticketKeysFile`).
 *
 *   # comment
 *   <base64 of 48 or 80 bytes>      the key that encrypts
 *   <base64 of 48 or 80 bytes>      one that decrypts; as many as there are
 *
 * `openssl rand -base64 48` makes a line. A file of 48 or 80 bytes as nginx has it (`ssl_session_ticket_key`) is one key.
 * 48 bytes are name, HMAC key and AES key, 16 bytes each. Of 80 bytes (16, 32, 32) the first half of either key is used, since
 * Node.js encrypts tickets with AES-128 and HMAC keys of 128 bits.
 */

/** Keys of one file: each is told to every worker, and looked through for each ticket. */
export const MAX_TICKET_KEYS = 16
/** More than any file needs: sixteen lines with comments. */
export const MAX_TICKET_FILE_BYTES = 16_384

const NAME_BYTES = 16, USED_BYTES = 16
const SHORT_BYTES = 48, LONG_BYTES = 80
const REMEDY = 'use a key a line in base64, of 48 or 80 bytes (openssl rand -base64 48), the one that encrypts first'

/** @returns keys of 48 bytes in base64, the one that encrypts first. @throws with one clause that says what is wrong and what would do */
export function parseTicketKeys(bytes: Buffer): readonly string[] {
  if (isKeyLength(bytes.length) && !isText(bytes)) return [shortened(bytes)]
  if (bytes.length > MAX_TICKET_FILE_BYTES) throw new Error(`it has ${bytes.length} bytes; ${REMEDY}`)
  const keys: string[] = []
  for (const [index, raw] of bytes.toString('latin1').split('\n').entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const key = Buffer.from(line, 'base64')
    const isWhole = key.toString('base64').replace(/=+$/, '') === line.replace(/=+$/, '')
    // What stands there may be a key with a slip in it: it is not shown.
    if (!isWhole) throw new Error(`line ${index + 1} is no base64; ${REMEDY}`)
    if (!isKeyLength(key.length)) throw new Error(`the key in line ${index + 1} has ${key.length} bytes; ${REMEDY}`)
    keys.push(shortened(key))
  }
  if (keys.length === 0) throw new Error(`there is no key in it; ${REMEDY}`)
  if (keys.length > MAX_TICKET_KEYS) throw new Error(`it has ${keys.length} keys; use at most ${MAX_TICKET_KEYS}`)
  const names = keys.map(key => Buffer.from(key, 'base64').subarray(0, NAME_BYTES).toString('hex'))
  const twice = names.findIndex((name, index) => names.indexOf(name) !== index)
  if (twice >= 0) {
    const first = names.indexOf(names[twice]!) + 1
    throw new Error(`keys ${first} and ${twice + 1} begin with the same ${NAME_BYTES} bytes, by which a key is found; make one anew`)
  }
  return keys
}

function isKeyLength(length: number): boolean { return length === SHORT_BYTES || length === LONG_BYTES }

/** One key in base64 with 48 characters would be 36 bytes: text of that length is looked at as text, so that its fault is told. */
function isText(bytes: Buffer): boolean { return bytes.every(byte => byte === 0x0a || byte === 0x0d || (byte >= 0x20 && byte < 0x7f)) }

function shortened(key: Buffer): string {
  if (key.length === SHORT_BYTES) return key.toString('base64')
  const half = (at: number): Buffer => key.subarray(at, at + USED_BYTES)
  return Buffer.concat([half(0), half(NAME_BYTES), half(NAME_BYTES + (LONG_BYTES - NAME_BYTES) / 2)]).toString('base64')
}
