/** JSON as the body of a request that a hook reads, and of an answer that it gives (RFC 8259). */
import { ProxyError } from '../errors/proxy-error.ts'
import type { ResponseFields, Session } from '../proxy/session.ts'
import { answerFields } from './answer-fields.ts'

/** `application/json`, or a type that says it is written in JSON (RFC 6839 3.1). */
const JSON_TYPE = /^application\/(?:json|[\w.-]{1,100}\+json)[ \t]*(?:;|$)/i

/**
 * Answers with `value` as JSON: `return respondJson(session, 200, { ok: true })`.
 * @param fields besides Content-Type, which is application/json unless they say otherwise
 * @throws TypeError on what JSON cannot say: undefined, a function, a bigint, a ring of objects
 */
export function respondJson(session: Session, status: number, value: unknown, fields: ResponseFields = {}): 'responded' {
  const body = JSON.stringify(value) as string | undefined
  if (body === undefined) throw new TypeError(`respondJson: ${typeof value} has no form in JSON`)
  const headers = answerFields(fields)
  if (!headers.has('content-type')) headers.set('Content-Type', 'application/json')
  return session.respond(status, headers, body)
}

/**
 * Reads the request's body as JSON; it is sent on to the origin all the same. The hook's throw becomes the answer: 415 when Content-Type
 * is another one, 413 past `maxBytes`, 400 when it is no JSON, or no UTF-8.
 * @returns whatever the client sent: check its shape before you use it
 * @throws ProxyError with that status
 */
export async function readJson(session: Session, maxBytes: number): Promise<unknown> {
  const types = session.request.headers.getAll('content-type')
  // Of two the origin could go by the other one.
  if (types.length !== 1 || !JSON_TYPE.test(types[0]!)) {
    throw new ProxyError('STATUS', 'downstream', 'the body is not application/json', { status: 415 })
  }
  const body = await session.readBody(maxBytes)
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch (cause) {
    throw new ProxyError('STATUS', 'downstream', 'the body is no JSON', { status: 400, cause })
  }
}
