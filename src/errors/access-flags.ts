/**
 * How an exchange ended, in two letters: for the access log, for metrics, and for those who look at either.
 * Which fault gets which is decided in proxy/fail-to-proxy.ts.
 */

/** Every flag of the access log with its meaning; '-' is the absence of a fault. */
export const FLAGS = {
  '-': 'all went well',
  NR: 'no route: a filter said 404',
  NH: 'no healthy backend',
  UC: 'the upstream could not be reached',
  UT: 'the upstream was too slow',
  UR: 'the upstream closed or reset the connection',
  UP: 'the upstream broke the protocol',
  RL: 'a limit on requests: a filter said 429',
  DC: 'the client went away',
  DT: 'the client was too slow',
  RX: 'it failed, and the retry budget was spent; `err` says why',
  FD: 'a filter refused the request with another status',
  FE: 'a filter failed',
  PE: 'the client broke the protocol or a limit of heads',
  DR: 'the process was finishing',
  BL: 'a body over its limit',
  OL: 'shed under overload',
} as const
export type Flag = keyof typeof FLAGS
