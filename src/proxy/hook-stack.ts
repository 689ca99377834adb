/**
 * The stack of a hook's fault. What a hook throws leads to its line; a result that would not do, or none in time, is noticed by the
 * proxy after the hook has returned, and no stack has the hook in it. Its author wants to see it all the same.
 */
import { placeIn } from '../errors/code-frame.ts'
import { describeError } from '../errors/describe-error.ts'
import { functionPlace } from '../errors/function-place.ts'
import type { ProxyError } from '../errors/proxy-error.ts'
import { hookNamed, type Hooked } from './phases.ts'

/** @returns the stack of what was thrown where that has a line of the application; otherwise the place of the hook, as a stack has it */
export function hookStack(error: ProxyError, hooked: Hooked): string {
  const { cause } = error, frame = hookFrame(error, hooked)
  if (frame === '') return describeError(cause).stack
  const { message } = cause === undefined ? error : describeError(cause)
  return `Error: ${message}\n${frame}`
}

/** @returns '' where the stack of what was thrown has a line of the application, and where the place of the hook is not known */
export function hookFrame({ hook, cause }: ProxyError, hooked: Hooked): string {
  if (hook === '' || placeIn(describeError(cause).stack) !== null) return ''
  const of = hookNamed(hooked, hook), place = of === null ? null : functionPlace(of)
  return place === null ? '' : `    at ${hook} (${place.file}:${place.line}:${place.column})`
}
