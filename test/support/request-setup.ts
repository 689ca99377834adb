/** How a test sends a request that asks for nothing special. */
import { FieldLines } from '../../src/http/field-lines.ts'
import type { RequestSetup } from '../../src/protocols/http-session.ts'

export function setupFor(length: number, more: Partial<RequestSetup> = {}): RequestSetup {
  return { length, lines: FieldLines.NONE, switchesTo: '', acceptsTrailers: false, defaultAuthority: 'default.test', ...more }
}
