/**
 * Who hears of every fault of a service's requests as it is, whatever the process log leaves out: `inject` gives them to the test
 * that made the request. A service in a worker has none, which costs one comparison a fault.
 */
import type { ProxyError } from '../errors/proxy-error.ts'

export interface FaultWatcher {
  /** The request failed, or was refused before it was one. */
  requestFailed(error: ProxyError): void
  /** A fault that did not end the request: of an attempt that is repeated, or of a hook whose result nothing waits for. */
  faultPassed(error: ProxyError): void
}
