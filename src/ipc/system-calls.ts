/**
 * The only native file: a few calls of the C library through node:ffi, tested on this machine before anyone uses them.
 *
 * Without them (another runtime, no FFI, `CIRQUE_SYSTEM_CALLS=off`) Cirque still runs: workers then inherit several
 * copies of each socket, the queue is judged by the clock, and the supervisor cannot replace itself in place.
 * None of this is on the path of a request; `accept` is on that of a connection.
 *
 * Invariants: every descriptor made or received here is close-on-exec until `setInheritable` says otherwise, and a call that
 * fails leaves none behind. Nothing blocks. Each thread loads its own; a worker thread may.
 * Structures are those of Linux on x86-64 and arm64, which are the same. Calls that need them, and those that need
 * fcntl, throw elsewhere; the rest goes on working.
 * One idea in more than 500 lines: what is native is read, tested and replaced in one file.
 */
import type * as Ffi from 'node:ffi'
import fs from 'node:fs'
import { SocketAddress } from 'node:net'
import os from 'node:os'

const { getSystemErrorName, isDeepStrictEqual } = process.getBuiltinModule('node:util')

export interface SystemCalls {
  /** A copy of a descriptor that children do not inherit. */
  dup(fd: number): number
  /** Any descriptor, by whomever it was opened; not one that a Node.js object will close again. */
  close(fd: number): void
  /** Whether a child (or the next image after exec) gets the descriptor. */
  setInheritable(fd: number, inheritable: boolean): void
  /** shutdown(fd, SHUT_RDWR). On a listening socket: later dials are refused, also where other processes hold copies. */
  shutdown(fd: number): void
  /** A bound socket queues connections from now on, whether a process accepts them yet or not. @throws SystemCallError */
  listen(fd: number, backlog: number): void
  /** Whether a listening socket has connections in its queue. */
  hasQueued(fd: number): boolean
  /** Whether a connection has sent something, or its end, that was not read yet. @throws SystemCallError */
  hasUnread(fd: number): boolean
  /**
   * Takes a connection from the queue of a listening socket that does not block. Those that their clients have given up in it
   * are passed over. -1: the queue is empty, or is taken from otherwise on this system. @throws SystemCallError: EMFILE …
   */
  accept(fd: number): number
  /**
   * Dials to a listening TCP socket get no answer from now on: the client's kernel repeats its dial after a second, and is
   * refused when the socket is gone by then. Handshakes that are under way and what is in the queue go on. It stays with the
   * socket, in every process that holds it. @throws SystemCallError, and where there is no such filter: it is of Linux.
   */
  ignoreDials(fd: number): void
  /** Marks what a TCP socket sends from now on: the DSCP (RFC 2474), 0 to 63. @param family of its addresses. @throws SystemCallError */
  setDscp(fd: number, family: 4 | 6, dscp: number): void
  /**
   * After so many ms in which nobody acknowledges what was sent, the kernel gives a TCP connection up (RFC 5482). 0: the system's
   * own. @throws SystemCallError, and where there is no such option: it is of Linux.
   */
  setUserTimeout(fd: number, ms: number): void
  /**
   * Takes the end of a child that Node.js does not know, as after an exec in place; of one that it does know, it would
   * steal the 'exit' event. null: the child still runs. 'not-a-child': it is none of ours, or its end was taken before.
   */
  reap(pid: number): ChildEnd | 'not-a-child' | null
  /**
   * Takes the advisory lock of an open file or folder (flock), which ends with the descriptor. @returns false when another
   * descriptor has it. @throws SystemCallError
   */
  lock(fd: number): boolean
  /** Where a stream socket is bound; null: to neither a TCP address nor a Unix path, or it is no stream socket at all. */
  socketAddress(fd: number): BoundAddress | null
  /**
   * One datagram with copies of descriptors to a Unix socket; '@name' or '\0name' is one in the abstract name space.
   * Never blocks: EAGAIN means that the receiver's queue is full. @throws SystemCallError
   */
  sendDatagram(path: string, payload: Buffer, descriptors: readonly number[]): void
  /**
   * A Unix datagram socket that is connected to a path, which Node.js cannot make: for many small messages to one receiver, such as
   * /dev/log. @throws SystemCallError: ENOENT and ECONNREFUSED where nobody receives
   */
  connectDatagram(path: string): DatagramOutlet
  /**
   * Makes a socket for `sendDatagram`. A path must not exist, and only our user can send to it; an abstract name has no
   * mode, so every user of this machine can. @throws SystemCallError
   */
  openInbox(path: string): DatagramInbox
  /**
   * The first bytes of an open file as memory: what is written there is in the file at once, for whoever reads it, and stays when
   * this process is killed. It lives as long as the process does; the descriptor is not needed any longer. A file that is cut
   * shorter later ends the process when it touches what is gone. @throws SystemCallError
   */
  mapFile(fd: number, bytes: number): ArrayBuffer
  /**
   * Replaces the image of the whole process, from any thread (process.execve only works on the main one). Descriptors
   * 0, 1, 2 and the inheritable ones go on. Returns only by throwing, and then nothing has changed.
   */
  execve(file: string, argv: readonly string[], env: Readonly<Record<string, string>>): never
}

/** How a child ended: one of the two is null. */
export interface ChildEnd {
  readonly code: number | null
  readonly signal: string | null
}

export type BoundAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  /** An abstract name begins with '\0'. */
  | { readonly kind: 'unix'; readonly path: string }

export interface ReceivedDatagram {
  readonly payload: Buffer
  /** The caller closes them; they are close-on-exec. */
  readonly descriptors: number[]
}

export interface DatagramInbox {
  /** null: nothing is there. @throws when a datagram had to be dropped; what came with it is closed, and the next one may follow. */
  receive(): ReceivedDatagram | null
  /** Also removes the path. What was not received is lost. */
  close(): void
}

export interface DatagramOutlet {
  /**
   * One datagram. Never blocks. @returns '' when the kernel has taken it, otherwise the name of what is wrong: EAGAIN while the
   * receiver's queue is full, ECONNREFUSED when it is gone, EMSGSIZE when it is too long
   */
  send(payload: Buffer): string
  close(): void
}

/** What one datagram can carry (SCM_MAX_FD of Linux). */
export const MAX_DATAGRAM_DESCRIPTORS = 253
/** Enough to describe as many sockets as one datagram carries. */
export const MAX_DATAGRAM_BYTES = 64 * 1024

export class SystemCallError extends Error {
  /** errno by name, `ENOENT`. */
  readonly code: string
  constructor(call: string, about: string, errno: number) {
    const code = getSystemErrorName(-errno)
    super(`${call}(${about.replaceAll('\0', '@')}): ${code} (errno ${errno})`)
    this.name = 'SystemCallError'
    this.code = code
  }
}

export type SystemCallsState =
  | { readonly available: true; readonly calls: SystemCalls }
  | { readonly available: false; readonly reason: string }

const MACOS = process.platform === 'darwin'

const F_GETFD = 1
const F_SETFD = 2
const FD_CLOEXEC = 1
const SHUT_RDWR = 2
const LOCK_EX = 2
const LOCK_NB = 4
const POLLIN = 1
const WNOHANG = 1
const AF_UNIX = 1
const AF_INET = 2
const AF_INET6 = MACOS ? 30 : 10
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOL_SOCKET = MACOS ? 0xffff : 1
const SO_TYPE = MACOS ? 0x1008 : 3
/** Linux only. */
const SO_ATTACH_FILTER = 26
const IPPROTO_IP = 0
const IP_TOS = MACOS ? 3 : 1
const IPPROTO_IPV6 = 41
const IPV6_TCLASS = MACOS ? 36 : 67
const IPPROTO_TCP = 6
/** Linux only. */
const TCP_USER_TIMEOUT = 18
const ENOENT = 2
const EBADF = 9
const ECHILD = 10
const EINTR = 4
/** Of Linux; it is 35 on macOS, whose EWOULDBLOCK is the same. */
const EAGAIN = MACOS ? 35 : 11
const EPROTO = 71
const ECONNABORTED = 103
const ENOTSOCK = MACOS ? 38 : 88
const ENOTCONN = MACOS ? 57 : 107

const PROT_READ_WRITE = 3
const MAP_SHARED = 1
const MAP_FAILED = 2n ** 64n - 1n

// Linux only.
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000
const SCM_RIGHTS = 1
const MSG_CTRUNC = 0x8
const MSG_TRUNC = 0x20
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000
const MSG_CMSG_CLOEXEC = 0x40000000

/** struct sockaddr_un: u16 family, char path[108]. A path ends with a zero byte, an abstract name begins with one. */
const UNIX_PATH_AT = 2
const UNIX_PATH_BYTES = 108

/**
 * A message in one piece of memory, because its structures point at each other:
 * struct msghdr { name, u32 nameLength, iovec, u64 iovecCount, control, u64 controlLength, i32 flags }, then the one
 * struct iovec { base, u64 length }, the address, the control area and the payload.
 */
const MESSAGE = { name: 0, nameLength: 8, iovec: 16, iovecCount: 24, control: 32, controlLength: 40, flags: 48 } as const
const IOVEC_AT = 56
const NAME_AT = 72
const CONTROL_AT = align8(NAME_AT + UNIX_PATH_AT + UNIX_PATH_BYTES)
/** struct cmsghdr { u64 length with this header, i32 level, i32 type }, then data, padded to 8 bytes. */
const CONTROL_HEADER_BYTES = 16
const MAX_CONTROL_BYTES = CONTROL_HEADER_BYTES + align8(4 * MAX_DATAGRAM_DESCRIPTORS)
const PAYLOAD_AT = CONTROL_AT + MAX_CONTROL_BYTES

/**
 * struct sock_filter { u16 code, u8 jumpIfTrue, u8 jumpIfFalse, u32 operand } of a classic BPF program. It sees a packet from
 * its TCP header on, whose byte 13 has the flags (RFC 9293 section 3.1); 0 drops the packet, all ones let it pass.
 */
const DROP_SYN: readonly (readonly [code: number, ifTrue: number, ifFalse: number, operand: number])[] = [
  [0x30, 0, 0, 13], // load the byte with the flags
  [0x54, 0, 0, 0x12], // SYN and ACK
  [0x15, 0, 1, 0x02], // only SYN?
  [0x06, 0, 0, 0],
  [0x06, 0, 0, 0xffff_ffff],
]
const FILTER_BYTES = 8
/** struct sock_fprog { u16 length, pointer to the first of them }. */
const PROGRAM_BYTES = 16

interface CLibrary {
  getpid(): number
  dup(fd: number): number
  close(fd: number): number
  fcntl(fd: number, command: number, argument: number): number
  shutdown(fd: number, how: number): number
  listen(fd: number, backlog: number): number
  flock(fd: number, operation: number): number
  /** Linux only. */
  accept4?(fd: number, address: bigint, length: bigint, flags: number): number
  poll(fds: Buffer, count: bigint, timeoutMs: number): number
  waitpid(pid: number, status: Buffer, options: number): number
  socket(domain: number, type: number, protocol: number): number
  socketpair(domain: number, type: number, protocol: number, pair: Buffer): number
  bind(fd: number, address: Buffer, length: number): number
  connect(fd: number, address: Buffer, length: number): number
  /** The upper half of its result says nothing that the lower does not: lengths are small here. */
  send(fd: number, payload: Buffer, length: bigint, flags: number): number
  getsockname(fd: number, address: Buffer, length: Buffer): number
  getsockopt(fd: number, level: number, name: number, value: Buffer, length: Buffer): number
  setsockopt(fd: number, level: number, name: number, value: Buffer, length: number): number
  sendmsg(fd: number, message: Buffer, flags: number): bigint
  recvmsg(fd: number, message: Buffer, flags: number): bigint
  mmap(address: bigint, length: bigint, protection: number, flags: number, fd: number, offset: bigint): bigint
  execve(file: Buffer, argv: Buffer, env: Buffer): number
  __errno_location?(): bigint
  __error?(): bigint
}

export async function loadSystemCalls(env: NodeJS.ProcessEnv = process.env): Promise<SystemCallsState> {
  return loadSystemCallsNow(env)
}

/** The same at once, for who cannot wait. */
export function loadSystemCallsNow(env: NodeJS.ProcessEnv = process.env): SystemCallsState {
  if (env['CIRQUE_SYSTEM_CALLS'] === 'off') return { available: false, reason: 'CIRQUE_SYSTEM_CALLS=off' }
  try {
    return { available: true, calls: load() }
  } catch (error) {
    return { available: false, reason: error instanceof Error ? error.message : String(error) }
  }
}

function load(): SystemCalls {
  const library = process.platform === 'linux' ? 'libc.so.6' : MACOS ? 'libSystem.B.dylib' : null
  if (library === null) throw new Error(`no known C library on ${process.platform}`)
  // Not by an import, which would end the process where node:ffi does not exist.
  const ffi = process.getBuiltinModule('node:ffi') as typeof Ffi | undefined
  if (ffi === undefined) throw new Error('this Node.js has no node:ffi')
  const { dlopen, getInt32, getRawPointer, toArrayBuffer } = ffi
  const { functions } = dlopen(library, {
    getpid: { arguments: [], return: 'int32' },
    dup: { arguments: ['int32'], return: 'int32' },
    close: { arguments: ['int32'], return: 'int32' },
    // Variadic in C. Declared as fixed it is called rightly on Linux; macOS on arm64 passes variadic arguments elsewhere, see below.
    fcntl: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
    shutdown: { arguments: ['int32', 'int32'], return: 'int32' },
    listen: { arguments: ['int32', 'int32'], return: 'int32' },
    flock: { arguments: ['int32', 'int32'], return: 'int32' },
    poll: { arguments: ['buffer', 'uint64', 'int32'], return: 'int32' },
    waitpid: { arguments: ['int32', 'buffer', 'int32'], return: 'int32' },
    socket: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
    socketpair: { arguments: ['int32', 'int32', 'int32', 'buffer'], return: 'int32' },
    bind: { arguments: ['int32', 'buffer', 'uint32'], return: 'int32' },
    connect: { arguments: ['int32', 'buffer', 'uint32'], return: 'int32' },
    send: { arguments: ['int32', 'buffer', 'uint64', 'int32'], return: 'int32' },
    getsockname: { arguments: ['int32', 'buffer', 'buffer'], return: 'int32' },
    getsockopt: { arguments: ['int32', 'int32', 'int32', 'buffer', 'buffer'], return: 'int32' },
    setsockopt: { arguments: ['int32', 'int32', 'int32', 'buffer', 'uint32'], return: 'int32' },
    sendmsg: { arguments: ['int32', 'buffer', 'int32'], return: 'int64' },
    recvmsg: { arguments: ['int32', 'buffer', 'int32'], return: 'int64' },
    mmap: { arguments: ['pointer', 'uint64', 'int32', 'int32', 'int32', 'int64'], return: 'pointer' },
    execve: { arguments: ['buffer', 'buffer', 'buffer'], return: 'int32' },
    ...MACOS ? {} : { accept4: { arguments: ['int32', 'uint64', 'uint64', 'int32'], return: 'int32' } },
    [MACOS ? '__error' : '__errno_location']: { arguments: [], return: 'pointer' },
  })
  const call = functions as unknown as CLibrary
  // A thread's errno stays where it is, so its place is asked for once.
  const errnoAddress = (call.__errno_location ?? call.__error!)()
  const errno = (): number => getInt32(errnoAddress)
  const fail = (name: string, about: number | string): never => { throw new SystemCallError(name, String(about), errno()) }
  const fcntlWorks = process.platform === 'linux'
  const messagesWork = process.platform === 'linux' && (process.arch === 'x64' || process.arch === 'arm64')

  const isInheritable = (fd: number): boolean => {
    const flags = call.fcntl(fd, F_GETFD, 0)
    return flags < 0 ? fail('fcntl', fd) : (flags & FD_CLOEXEC) === 0
  }
  const setInheritable = (fd: number, inheritable: boolean): void => {
    if (!fcntlWorks) throw new Error('fcntl is not usable here')
    const flags = call.fcntl(fd, F_GETFD, 0)
    if (flags < 0 || call.fcntl(fd, F_SETFD, inheritable ? flags & ~FD_CLOEXEC : flags | FD_CLOEXEC) < 0) fail('fcntl', fd)
  }
  const close = (fd: number): void => { if (call.close(fd) !== 0) fail('close', fd) }

  const isReadable = (fd: number): boolean => {
    pollFd.writeInt32LE(fd, 0)
    pollFd.writeInt16LE(POLLIN, 4)
    pollFd.writeInt16LE(0, 6)
    const ready = call.poll(pollFd, 1n, 0)
    if (ready < 0) fail('poll', fd)
    return ready > 0 && (pollFd.readInt16LE(6) & POLLIN) !== 0
  }

  const setOption = (fd: number, level: number, name: number, value: number): void => {
    int32.writeInt32LE(value)
    if (call.setsockopt(fd, level, name, int32, int32.length) < 0) fail('setsockopt', fd)
  }

  const readOption = (fd: number, level: number, name: number): number => {
    length32.writeUInt32LE(int32.length, 0)
    return call.getsockopt(fd, level, name, int32, length32) < 0 ? fail('getsockopt', fd) : int32.readInt32LE(0)
  }

  // Where calls write; nothing in them outlives a call.
  const int32 = Buffer.alloc(4)
  const length32 = Buffer.alloc(4)
  const sockaddr = Buffer.alloc(128)
  // int fd; short events; short revents
  const pollFd = Buffer.alloc(8)

  /**
   * Memory that system calls may be given the address of: its bytes stay where they are for as long as its buffer is
   * referenced. What small buffers hold, the collector moves.
   */
  const pinned = (length: number): { readonly bytes: Buffer; readonly at: bigint } => {
    const memory = new ArrayBuffer(length)
    return { bytes: Buffer.from(memory), at: getRawPointer(memory) }
  }

  const newMessage = (payloadBytes: number): Buffer => {
    const { bytes, at } = pinned(PAYLOAD_AT + payloadBytes)
    bytes.writeBigUInt64LE(at + BigInt(NAME_AT), MESSAGE.name)
    bytes.writeBigUInt64LE(at + BigInt(IOVEC_AT), MESSAGE.iovec)
    bytes.writeBigUInt64LE(1n, MESSAGE.iovecCount)
    bytes.writeBigUInt64LE(at + BigInt(CONTROL_AT), MESSAGE.control)
    bytes.writeBigUInt64LE(at + BigInt(PAYLOAD_AT), IOVEC_AT)
    bytes.writeBigUInt64LE(BigInt(payloadBytes), IOVEC_AT + 8)
    return bytes
  }

  /** @param to null: the address that the socket is connected to. @returns false when it failed. */
  const send = (fd: number, to: Buffer | null, payload: Buffer, descriptors: readonly number[]): boolean => {
    const message = newMessage(payload.length)
    if (to !== null) {
      message.writeUInt32LE(to.length, MESSAGE.nameLength)
      to.copy(message, NAME_AT)
    }
    if (descriptors.length > 0) {
      const length = CONTROL_HEADER_BYTES + 4 * descriptors.length
      message.writeBigUInt64LE(BigInt(align8(length)), MESSAGE.controlLength)
      message.writeBigUInt64LE(BigInt(length), CONTROL_AT)
      message.writeInt32LE(SOL_SOCKET, CONTROL_AT + 8)
      message.writeInt32LE(SCM_RIGHTS, CONTROL_AT + 12)
      descriptors.forEach((descriptor, index) => message.writeInt32LE(descriptor, CONTROL_AT + CONTROL_HEADER_BYTES + 4 * index))
    }
    payload.copy(message, PAYLOAD_AT)
    return call.sendmsg(fd, message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0n
  }

  /** @param message used again for every datagram of one socket. */
  const receive = (fd: number, message: Buffer): ReceivedDatagram | null => {
    // The call writes what it used over what there was.
    message.writeUInt32LE(0, MESSAGE.nameLength)
    message.writeBigUInt64LE(BigInt(MAX_CONTROL_BYTES), MESSAGE.controlLength)
    const length = call.recvmsg(fd, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
    if (length < 0n) return errno() === EAGAIN ? null : fail('recvmsg', fd)
    const descriptors = descriptorsOf(message)
    const flags = message.readInt32LE(MESSAGE.flags)
    if ((flags & (MSG_CTRUNC | MSG_TRUNC)) !== 0) {
      for (const descriptor of descriptors) close(descriptor)
      const cut = (flags & MSG_CTRUNC) === 0
        ? `it is longer than ${MAX_DATAGRAM_BYTES} bytes`
        : 'not all of its descriptors could be taken; raise the limit of open files'
      throw new Error(`a datagram was dropped: ${cut}`)
    }
    return { payload: Buffer.from(message.subarray(PAYLOAD_AT, PAYLOAD_AT + Number(length))), descriptors }
  }

  const datagramSocket = (): number => {
    const fd = call.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
    return fd < 0 ? fail('socket', 'AF_UNIX') : fd
  }

  /** A `char *[]` with a null at its end, and behind it in the same memory what it points to. */
  const stringVector = (texts: readonly string[]): Buffer => {
    const encoded = texts.map(zeroEnded)
    let next = 8 * (texts.length + 1)
    const { bytes, at } = pinned(encoded.reduce((sum, text) => sum + text.length, next))
    encoded.forEach((text, index) => {
      bytes.writeBigUInt64LE(at + BigInt(next), 8 * index)
      next += text.copy(bytes, next)
    })
    return bytes
  }

  const calls: SystemCalls = {
    dup(fd) {
      const copy = call.dup(fd)
      if (copy < 0) fail('dup', fd)
      if (fcntlWorks) setInheritable(copy, false)
      return copy
    },
    close,
    setInheritable,
    shutdown(fd) {
      // ENOTCONN: it never listened, or another process has shut it down.
      if (call.shutdown(fd, SHUT_RDWR) < 0 && errno() !== ENOTCONN) fail('shutdown', fd)
    },
    lock(fd) {
      if (call.flock(fd, LOCK_EX | LOCK_NB) === 0) return true
      return errno() === EAGAIN ? false : fail('flock', fd)
    },
    listen(fd, backlog) { if (call.listen(fd, backlog) !== 0) fail('listen', fd) },
    hasQueued: isReadable,
    hasUnread: isReadable,
    accept(fd) {
      if (call.accept4 === undefined) return -1
      for (;;) {
        const connection = call.accept4(fd, 0n, 0n, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if (connection >= 0) return connection
        const fault = errno()
        if (fault === EAGAIN) return -1
        if (fault !== EINTR && fault !== ECONNABORTED && fault !== EPROTO) throw new SystemCallError('accept4', String(fd), fault)
      }
    },
    ignoreDials(fd) {
      if (!messagesWork) throw new Error('there is no filter for sockets here')
      const { bytes, at } = pinned(PROGRAM_BYTES + FILTER_BYTES * DROP_SYN.length)
      bytes.writeUInt16LE(DROP_SYN.length, 0)
      bytes.writeBigUInt64LE(at + BigInt(PROGRAM_BYTES), 8)
      DROP_SYN.forEach(([code, ifTrue, ifFalse, operand], index) => {
        const offset = PROGRAM_BYTES + FILTER_BYTES * index
        bytes.writeUInt16LE(code, offset)
        bytes.writeUInt8(ifTrue, offset + 2)
        bytes.writeUInt8(ifFalse, offset + 3)
        bytes.writeUInt32LE(operand, offset + 4)
      })
      if (call.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, bytes, PROGRAM_BYTES) < 0) fail('setsockopt', fd)
    },
    setDscp(fd, family, dscp) {
      if (!Number.isInteger(dscp) || dscp < 0 || dscp > 63) throw new RangeError(`${dscp} is no DSCP`)
      // The lower two bits are for congestion (RFC 3168).
      setOption(fd, family === 6 ? IPPROTO_IPV6 : IPPROTO_IP, family === 6 ? IPV6_TCLASS : IP_TOS, dscp << 2)
    },
    setUserTimeout(fd, ms) {
      if (MACOS) throw new Error('there is no user timeout of TCP here')
      setOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, Math.ceil(ms))
    },
    reap(pid) {
      // 0 and negative numbers mean groups of children, and would take those of Node.js as well.
      if (!Number.isInteger(pid) || pid <= 0) throw new RangeError(`${pid} is not the id of a process`)
      const result = call.waitpid(pid, int32, WNOHANG)
      if (result === 0) return null
      if (result < 0) return errno() === ECHILD ? 'not-a-child' : fail('waitpid', pid)
      const status = int32.readInt32LE(0)
      const signal = status & 0x7f
      return signal === 0 ? { code: (status >> 8) & 0xff, signal: null } : { code: null, signal: signalName(signal) }
    },
    socketAddress(fd) {
      length32.writeUInt32LE(int32.length, 0)
      if (call.getsockopt(fd, SOL_SOCKET, SO_TYPE, int32, length32) < 0) return errno() === ENOTSOCK ? null : fail('getsockopt', fd)
      if (int32.readInt32LE(0) !== SOCK_STREAM) return null
      sockaddr.fill(0)
      length32.writeUInt32LE(sockaddr.length, 0)
      if (call.getsockname(fd, sockaddr, length32) < 0) fail('getsockname', fd)
      return readAddress(sockaddr.subarray(0, length32.readUInt32LE(0)))
    },
    sendDatagram(path, payload, descriptors) {
      if (!messagesWork) throw new Error(MESSAGES_MISSING)
      if (payload.length > MAX_DATAGRAM_BYTES) {
        throw new RangeError(`a datagram of ${payload.length} bytes; at most ${MAX_DATAGRAM_BYTES} are taken`)
      }
      if (descriptors.length > MAX_DATAGRAM_DESCRIPTORS) {
        throw new RangeError(`${descriptors.length} descriptors in one datagram; it carries at most ${MAX_DATAGRAM_DESCRIPTORS}`)
      }
      const to = unixAddress(path)
      const fd = datagramSocket()
      try {
        if (!send(fd, to, payload, descriptors)) fail('sendmsg', path)
      } finally {
        close(fd)
      }
    },
    connectDatagram(path) {
      if (!messagesWork) throw new Error(MESSAGES_MISSING)
      const address = unixAddress(path)
      const fd = datagramSocket()
      if (call.connect(fd, address, address.length) !== 0) {
        const error = new SystemCallError('connect', path, errno())
        close(fd)
        throw error
      }
      let open = true
      return {
        send(payload) {
          if (!open) throw new Error('the outlet is closed')
          for (;;) {
            if (call.send(fd, payload, BigInt(payload.length), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return ''
            const fault = errno()
            if (fault !== EINTR) return getSystemErrorName(-fault)
          }
        },
        close() {
          if (open) close(fd)
          open = false
        },
      }
    },
    openInbox(path) {
      if (!messagesWork) throw new Error(MESSAGES_MISSING)
      const address = unixAddress(path)
      const fd = datagramSocket()
      try {
        // Before bind: the new file gets the mode of the socket, so there is no moment in which others could send.
        fs.fchmodSync(fd, 0o600)
        if (call.bind(fd, address, address.length) !== 0) fail('bind', path)
      } catch (error) {
        close(fd)
        throw error
      }
      const message = newMessage(MAX_DATAGRAM_BYTES)
      let open = true
      return {
        receive() {
          if (!open) throw new Error('the inbox is closed')
          return receive(fd, message)
        },
        close() {
          if (!open) return
          open = false
          if (address[UNIX_PATH_AT] !== 0) fs.rmSync(path, { force: true })
          close(fd)
        },
      }
    },
    mapFile(fd, bytes) {
      const address = call.mmap(0n, BigInt(bytes), PROT_READ_WRITE, MAP_SHARED, fd, 0n)
      return address === MAP_FAILED ? fail('mmap', fd) : toArrayBuffer(address, bytes, false)
    },
    execve(file, argv, env) {
      if (!fcntlWorks) throw new Error('fcntl is not usable here, and the next image would lose its output without it')
      const image = zeroEnded(file)
      const args = stringVector(argv)
      const variables = stringVector(Object.entries(env).map(([name, value]) => {
        if (name === '' || name.includes('=')) throw new TypeError(`${JSON.stringify(name)} cannot be the name of a variable`)
        return `${name}=${value}`
      }))
      // At its start Node.js marks these as well; what the next image opens first would take their place. One that is closed stays closed.
      const marked = [0, 1, 2].filter(fd => call.fcntl(fd, F_GETFD, 0) === FD_CLOEXEC)
      for (const fd of marked) setInheritable(fd, true)
      call.execve(image, args, variables)
      const error = new SystemCallError('execve', file, errno())
      for (const fd of marked) setInheritable(fd, false)
      throw error
    },
  }

  // A misspelt signature gives garbage, not an error: prove each call before anyone relies on it.
  const prove = (what: string, holds: boolean): void => { if (!holds) throw new Error(`self-test: ${what}`) }
  prove('getpid', call.getpid() === process.pid)
  prove('errno', call.dup(-1) === -1 && errno() === EBADF)
  const copy = calls.dup(2)
  prove('fcntl', !fcntlWorks || !isInheritable(copy))
  prove('close', call.close(copy) === 0 && call.close(-1) === -1 && errno() === EBADF)
  prove('accept4', call.accept4 === undefined || (call.accept4(-1, 0n, 0n, SOCK_CLOEXEC) === -1 && errno() === EBADF))
  const marked = call.socket(AF_INET, SOCK_STREAM, 0)
  try {
    calls.setDscp(marked, 4, 46)
    prove('DSCP', readOption(marked, IPPROTO_IP, IP_TOS) === 46 << 2)
    if (!MACOS) {
      calls.setUserTimeout(marked, 1234)
      prove('user timeout', readOption(marked, IPPROTO_TCP, TCP_USER_TIMEOUT) === 1234)
    }
  } finally {
    close(marked)
  }
  prove('mmap', call.mmap(0n, 1n, PROT_READ_WRITE, MAP_SHARED, -1, 0n) === MAP_FAILED && errno() === EBADF)
  prove('shutdown', call.shutdown(-1, SHUT_RDWR) === -1 && errno() === EBADF)
  prove('listen', call.listen(-1, 1) === -1 && errno() === EBADF)
  prove('flock', call.flock(-1, LOCK_EX | LOCK_NB) === -1 && errno() === EBADF)
  prove('waitpid', calls.reap(process.pid) === 'not-a-child')
  const unbound = call.socket(AF_INET, SOCK_STREAM, 0)
  try {
    prove('getsockname', isDeepStrictEqual(calls.socketAddress(unbound), { kind: 'tcp', host: '0.0.0.0', port: 0 }))
  } finally {
    call.close(unbound)
  }
  if (fcntlWorks) prove('execve', call.execve(zeroEnded(''), stringVector(['self-test']), stringVector([])) === -1 && errno() === ENOENT)
  if (messagesWork) {
    prove('bind', call.bind(-1, sockaddr, UNIX_PATH_AT) === -1 && errno() === EBADF)
    prove('connect', call.connect(-1, sockaddr, UNIX_PATH_AT) === -1 && errno() === EBADF)
    const pair = Buffer.alloc(8)
    prove('socketpair', call.socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) === 0)
    const [near, far] = [pair.readInt32LE(0), pair.readInt32LE(4)]
    try {
      prove('send', call.send(near, Buffer.from('self-test'), 9n, MSG_DONTWAIT) === 9)
      prove('what was sent', receive(far, newMessage(MAX_DATAGRAM_BYTES))?.payload.toString() === 'self-test')
      prove('sendmsg', send(near, null, Buffer.from('self-test'), [2]))
      const received = receive(far, newMessage(MAX_DATAGRAM_BYTES))
      const [arrived = -1, ...others] = received?.descriptors ?? []
      prove('recvmsg', received?.payload.toString() === 'self-test' && arrived >= 0 && others.length === 0)
      prove('descriptors', fs.fstatSync(arrived).ino === fs.fstatSync(2).ino && !isInheritable(arrived))
      close(arrived)
    } finally {
      close(near)
      close(far)
    }
  }
  return calls
}

const MESSAGES_MISSING = `Unix datagrams cannot be sent on ${process.platform} ${process.arch}`

function align8(length: number): number { return (length + 7) & ~7 }

function zeroEnded(text: string): Buffer {
  if (text.includes('\0')) throw new TypeError(`${JSON.stringify(text)} holds a zero byte`)
  return Buffer.from(`${text}\0`)
}

function unixAddress(path: string): Buffer {
  const abstract = path.startsWith('@') || path.startsWith('\0')
  const name = Buffer.from(abstract ? path.slice(1) : path)
  if (name.length === 0 || name.length >= UNIX_PATH_BYTES || name.includes(0)) {
    const fault = `${JSON.stringify(path)} cannot be the address of a Unix socket`
    throw new RangeError(`${fault}; use 1 to ${UNIX_PATH_BYTES - 1} bytes without a zero`)
  }
  // One byte more in both cases: the zero that ends a path or begins an abstract name.
  const address = Buffer.alloc(UNIX_PATH_AT + name.length + 1)
  address.writeUInt16LE(AF_UNIX, 0)
  name.copy(address, UNIX_PATH_AT + (abstract ? 1 : 0))
  return address
}

/** Every sockaddr begins with its family; those of macOS have their length in the first byte. */
function readAddress(address: Buffer): BoundAddress | null {
  const family = MACOS ? address[1] : address.readUInt16LE(0)
  if (family === AF_INET) return { kind: 'tcp', host: address.subarray(4, 8).join('.'), port: address.readUInt16BE(2) }
  if (family === AF_INET6) {
    const groups = Array.from({ length: 8 }, (_, index) => address.readUInt16BE(8 + 2 * index).toString(16))
    // SocketAddress knows the one canonical spelling.
    const { address: host } = new SocketAddress({ family: 'ipv6', address: groups.join(':') })
    return { kind: 'tcp', host: `${host}${zoneOf(address.readUInt32LE(24))}`, port: address.readUInt16BE(2) }
  }
  if (family !== AF_UNIX || address.length <= UNIX_PATH_AT) return null
  const path = address.subarray(UNIX_PATH_AT)
  if (path[0] !== 0) return { kind: 'unix', path: path.subarray(0, path.includes(0) ? path.indexOf(0) : path.length).toString() }
  return MACOS ? null : { kind: 'unix', path: path.toString() }
}

/** `%eth0`, as people write link-local addresses. @param scope number of the interface; 0: none. */
function zoneOf(scope: number): string {
  if (scope === 0) return ''
  const isOfScope = (address: os.NetworkInterfaceInfo): boolean => address.family === 'IPv6' && address.scopeid === scope
  const found = Object.entries(os.networkInterfaces()).find(([, addresses]) => addresses?.some(isOfScope))
  return `%${found?.[0] ?? scope}`
}

function signalName(signal: number): string {
  // Real-time signals have no names here.
  return Object.entries(os.constants.signals).find(([, number]) => number === signal)?.[0] ?? `signal ${signal}`
}

function descriptorsOf(message: Buffer): number[] {
  const descriptors: number[] = []
  const end = CONTROL_AT + Number(message.readBigUInt64LE(MESSAGE.controlLength))
  for (let at = CONTROL_AT; at + CONTROL_HEADER_BYTES <= end;) {
    const length = Number(message.readBigUInt64LE(at))
    if (length < CONTROL_HEADER_BYTES) break
    if (message.readInt32LE(at + 8) === SOL_SOCKET && message.readInt32LE(at + 12) === SCM_RIGHTS) {
      const messageEnd = Math.min(at + length, end)
      for (let each = at + CONTROL_HEADER_BYTES; each + 4 <= messageEnd; each += 4) descriptors.push(message.readInt32LE(each))
    }
    at += align8(length)
  }
  return descriptors
}
