/** Fields that an application gives for an answer, as a map that more may be added to. */
import { HeaderMap } from '../http/header-map.ts'
import type { ResponseFields } from '../proxy/session.ts'

/** @throws TypeError on a name or value that must not be written */
export function answerFields(given: ResponseFields): HeaderMap {
  return given instanceof HeaderMap ? given.clone() : HeaderMap.from(given)
}
