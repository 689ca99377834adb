/**
 * Where `@opentelemetry/api` finds the current span in the lean form, whose packages have no such place. Nothing is entered but around
 * hooks of recorded requests, and Node.js carries what was entered along with promises and timers by itself.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { ROOT_CONTEXT, type Context, type ContextManager } from '@opentelemetry/api'

type Callable = (...args: unknown[]) => unknown

export class HookContext implements ContextManager {
  readonly #storage = new AsyncLocalStorage<Context>()

  active(): Context { return this.#storage.getStore() ?? ROOT_CONTEXT }

  with<A extends unknown[], F extends (...args: A) => ReturnType<F>>(
    context: Context, hook: F, thisArg?: ThisParameterType<F>, ...args: A
  ): ReturnType<F> {
    return this.#storage.run(context, () => hook.apply(thisArg, args))
  }

  /** Functions alone: whatever else is bound stays as it is, and its callbacks run in the context in which it was made. */
  bind<T>(context: Context, target: T): T {
    if (typeof target !== 'function') return target
    const bound = target as unknown as Callable, storage = this.#storage
    return function (this: unknown, ...args: unknown[]) { return storage.run(context, () => bound.apply(this, args)) } as T
  }

  enable(): this { return this }

  disable(): this {
    this.#storage.disable()
    return this
  }
}
