/** Methods that an application writes down. They are compared with their case (RFC 9110 9.1): `get` would be another one than GET. */
import { isToken } from '../http/header-map.ts'

/** Whether a method may be named so: a token without small letters, as all that are registered. */
export function isMethodName(text: string): boolean { return isToken(text) && !/[a-z]/.test(text) }
