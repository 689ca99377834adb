/**
 * The only native file: a few calls of the C library through node:ffi, tested on this machine before anyone uses them.
 *
 * Without them (another runtime, no FFI, `CIRQUE_SYSTEM_CALLS=off`) Cirque still runs: workers then inherit several
 * copies of each socket, the queue is judged by the clock, and the supervisor cannot replace itself in place.
 * None of this is on the path of a request.
 */

export interface SystemCalls {
  /** A copy of a descriptor that children do not inherit. */
  dup(fd: number): number
  /** Whether a child (or the next image after exec) gets the descriptor. */
  setInheritable(fd: number, inheritable: boolean): void
  /** shutdown(fd, SHUT_RDWR). On a listening socket: later dials are refused, whoever else holds a copy. */
  shutdown(fd: number): void
  /** Whether a listening socket has connections in its queue. */
  hasQueued(fd: number): boolean
}

export type SystemCallsState = { readonly available: true; readonly calls: SystemCalls } | { readonly available: false; readonly reason: string }

const F_GETFD = 1
const F_SETFD = 2
const FD_CLOEXEC = 1
const SHUT_RDWR = 2
const POLLIN = 1
const EBADF = 9
const ENOTCONN = process.platform === 'darwin' ? 57 : 107

export async function loadSystemCalls(env: NodeJS.ProcessEnv = process.env): Promise<SystemCallsState> {
  if (env['CIRQUE_SYSTEM_CALLS'] === 'off') return { available: false, reason: 'CIRQUE_SYSTEM_CALLS=off' }
  try {
    return { available: true, calls: await load() }
  } catch (error) {
    return { available: false, reason: error instanceof Error ? error.message : String(error) }
  }
}

async function load(): Promise<SystemCalls> {
  const library = process.platform === 'linux' ? 'libc.so.6' : process.platform === 'darwin' ? 'libSystem.B.dylib' : null
  if (library === null) throw new Error(`no known C library on ${process.platform}`)
  // Dynamic: where node:ffi does not exist a static import would end the process.
  const { dlopen, getInt32 } = await import('node:ffi')
  const { functions: libc } = dlopen(library, {
    getpid: { arguments: [], return: 'int32' },
    dup: { arguments: ['int32'], return: 'int32' },
    close: { arguments: ['int32'], return: 'int32' },
    // Variadic in C. Declared as fixed it is called rightly on Linux; macOS on arm64 passes variadic arguments elsewhere, see below.
    fcntl: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
    shutdown: { arguments: ['int32', 'int32'], return: 'int32' },
    poll: { arguments: ['buffer', 'uint64', 'int32'], return: 'int32' },
    [process.platform === 'darwin' ? '__error' : '__errno_location']: { arguments: [], return: 'pointer' },
  })
  const call = libc as unknown as {
    getpid(): number
    dup(fd: number): number
    close(fd: number): number
    fcntl(fd: number, command: number, argument: number): number
    shutdown(fd: number, how: number): number
    poll(fds: Buffer, count: bigint, timeoutMs: number): number
    __errno_location?(): bigint
    __error?(): bigint
  }
  const errnoAddress = call.__errno_location ?? call.__error!
  const errno = (): number => getInt32(errnoAddress())
  const fail = (name: string, fd: number): never => { throw new Error(`${name}(${fd}): errno ${errno()}`) }
  const fcntlWorks = process.platform === 'linux'

  const setInheritable = (fd: number, inheritable: boolean): void => {
    if (!fcntlWorks) throw new Error('fcntl is not usable here')
    const flags = call.fcntl(fd, F_GETFD, 0)
    if (flags < 0 || call.fcntl(fd, F_SETFD, inheritable ? flags & ~FD_CLOEXEC : flags | FD_CLOEXEC) < 0) fail('fcntl', fd)
  }
  // int fd; short events; short revents
  const pollFd = Buffer.alloc(8)
  const calls: SystemCalls = {
    dup(fd) {
      const copy = call.dup(fd)
      if (copy < 0) fail('dup', fd)
      if (fcntlWorks) setInheritable(copy, false)
      return copy
    },
    setInheritable,
    shutdown(fd) {
      // ENOTCONN: it never listened, or somebody else has shut it down.
      if (call.shutdown(fd, SHUT_RDWR) < 0 && errno() !== ENOTCONN) fail('shutdown', fd)
    },
    hasQueued(fd) {
      pollFd.writeInt32LE(fd, 0)
      pollFd.writeInt16LE(POLLIN, 4)
      pollFd.writeInt16LE(0, 6)
      const ready = call.poll(pollFd, 1n, 0)
      if (ready < 0) fail('poll', fd)
      return ready > 0 && (pollFd.readInt16LE(6) & POLLIN) !== 0
    },
  }

  // A misspelt signature gives garbage, not an error: prove each call before anyone relies on it.
  if (call.getpid() !== process.pid) throw new Error('self-test: getpid')
  if (call.dup(-1) !== -1 || errno() !== EBADF) throw new Error('self-test: errno')
  const copy = calls.dup(2)
  if (fcntlWorks && (call.fcntl(copy, F_GETFD, 0) & FD_CLOEXEC) === 0) throw new Error('self-test: fcntl')
  if (call.close(copy) !== 0) throw new Error('self-test: close')
  if (call.shutdown(-1, SHUT_RDWR) !== -1 || errno() !== EBADF) throw new Error('self-test: shutdown')
  return calls
}
