import assert from 'node:assert/strict'
import test from 'node:test'
import { SILENT_LOG } from '../../src/ipc/process-log.ts'
import { parseListenAddress } from '../../src/ipc/listen-address.ts'
import { canonicalAddress } from '../../src/ipc/server-description.ts'
import type { DescribedListener } from '../../src/ipc/server-description.ts'
import { BindError, ListenerTable } from '../../supervisor/listener-table.ts'
import type { SystemCalls } from '../../src/ipc/system-calls.ts'
import type { SocketBinder } from '../../supervisor/listener-table.ts'

function listeners(...texts: string[]): DescribedListener[] {
  const addresses = texts.flatMap(text => parseListenAddress(text))
  return addresses.map((address, index) => {
    return { name: `l${index}`, service: 'web', address, canonical: canonicalAddress(address), backlog: 4096 }
  })
}

class FakeBinder implements SocketBinder {
  reusePort = true
  readonly open = new Map<number, string>()
  readonly calls: string[] = []
  readonly unlinked: string[] = []
  fail: (call: string) => string = () => ''
  unix: 'absent' | 'live' | 'stale' | 'other' = 'absent'
  #fd = 20
  bindTcp(host: string, port: number, ipv6Only: boolean, reusePort: boolean) {
    const bound = port === 0 ? 40_000 : port
    return this.#open(`${host}:${port}${ipv6Only ? ' v6only' : ''}${reusePort ? ' reuse' : ''}`, bound)
  }
  bindUnix(path: string, mode: number) { return this.#open(`${path} ${mode.toString(8)}`, 0) }
  async resolve(host: string): Promise<string> {
    if (host === 'nowhere') throw Object.assign(new Error('no'), { code: 'ENOTFOUND' })
    return '10.0.0.1'
  }
  close(): void {}
  probeUnix(): Promise<'absent' | 'live' | 'stale' | 'other'> { return Promise.resolve(this.unix) }
  unlink(path: string): void { this.unlinked.push(path) }
  inode(fd: number): string { return `inode ${fd}` }
  #open(call: string, port: number) {
    this.calls.push(call)
    const code = this.fail(call)
    if (code !== '') throw Object.assign(new Error(code), { code })
    const fd = this.#fd++
    this.open.set(fd, call)
    return { fd: () => fd, address: () => ({ port }), close: () => { this.open.delete(fd) } }
  }
}

test('listener table: one socket per slot, after a probe without reusePort; descriptors in the order of the layout', async () => {
  const binder = new FakeBinder()
  const table = new ListenerTable(2, SILENT_LOG, binder)
  const described = listeners('0.0.0.0:80', 'unix:/a?mode=600')
  await table.bind(described)
  assert.deepEqual(binder.calls, ['0.0.0.0:80', '0.0.0.0:80 reuse', '0.0.0.0:80 reuse', '/a 600'])
  const layout = table.layout(described, 1)
  assert.deepEqual(layout, { slots: 2, copies: 1, listeners: [{ name: 'l0', shared: false }, { name: 'l1', shared: true }] })
  assert.deepEqual(table.descriptors(described, table.layout(described, 1)), [21, 22, 23])
  assert.deepEqual(table.descriptors(described, table.layout(described, 2)), [21, 22, 23, 21, 22, 23])
  const shut: number[] = []
  table.close({ shutdown: (fd: number) => { shut.push(fd) } } as SystemCalls)
  assert.deepEqual(shut, [21, 22, 23])
  assert.equal(binder.open.size, 0)
  assert.deepEqual(binder.unlinked, ['/a'])
})

test('listener table: port 0 is chosen by the first slot and followed by the others, without a probe', async () => {
  const binder = new FakeBinder()
  const table = new ListenerTable(2, SILENT_LOG, binder)
  await table.bind(listeners('127.0.0.1:0'))
  assert.deepEqual(binder.calls, ['127.0.0.1:0 reuse', '127.0.0.1:40000 reuse'])
  assert.equal(table.listeners[0]!.bound, '127.0.0.1:40000')
})

test('listener table: names are resolved once', async () => {
  const binder = new FakeBinder()
  const table = new ListenerTable(1, SILENT_LOG, binder)
  await table.bind(listeners('app.internal:80'))
  assert.equal(table.listeners[0]!.bound, '10.0.0.1:80')
  await assert.rejects(new ListenerTable(1, SILENT_LOG, binder).bind(listeners('nowhere:80')), /nowhere cannot be resolved \(ENOTFOUND\)/)
})

test('listener table: without SO_REUSEPORT all slots share one socket', async () => {
  const binder = new FakeBinder()
  binder.reusePort = false
  const table = new ListenerTable(3, SILENT_LOG, binder)
  const described = listeners('127.0.0.1:80')
  await table.bind(described)
  assert.deepEqual(table.allDescriptors.length, 1)
  assert.equal(table.layout(described, 1).listeners[0]!.shared, true)
})

test('listener table: an address in use is named with a remedy, and nothing stays bound', async () => {
  const binder = new FakeBinder()
  binder.fail = call => call === '0.0.0.0:81' ? 'EADDRINUSE' : ''
  const table = new ListenerTable(2, SILENT_LOG, binder)
  const start = "0.0.0.0:81 of service 'web' cannot be bound: the address is in use"
  await assert.rejects(table.bind(listeners('0.0.0.0:80', '0.0.0.0:81')), (error: unknown) => {
    return error instanceof BindError && error.code === 'EADDRINUSE' && error.message.startsWith(start)
  })
  assert.equal(binder.open.size, 0)
})

test('listener table: one address asked for twice is refused before anything is bound', async () => {
  const binder = new FakeBinder()
  const table = new ListenerTable(1, SILENT_LOG, binder)
  await assert.rejects(table.bind(listeners('a:80', 'A:80')), /a:80 is asked for twice, by 'l0' and 'l1'/)
  assert.deepEqual(binder.calls, [])
})

test('listener table: `:port` on a machine without IPv6 serves IPv4', async () => {
  const binder = new FakeBinder()
  binder.fail = call => call.startsWith(':::') ? 'EAFNOSUPPORT' : ''
  const table = new ListenerTable(1, SILENT_LOG, binder)
  await table.bind(listeners(':80'))
  assert.deepEqual(table.listeners.map(listener => listener.bound), ['0.0.0.0:80'])
})

test('listener table: a stale Unix path is replaced, a live one and a file are not', async () => {
  const binder = new FakeBinder()
  binder.unix = 'stale'
  await new ListenerTable(1, SILENT_LOG, binder).bind(listeners('unix:/a'))
  assert.deepEqual(binder.unlinked, ['/a'])
  binder.unix = 'live'
  await assert.rejects(new ListenerTable(1, SILENT_LOG, binder).bind(listeners('unix:/a')), /another program listens there/)
  binder.unix = 'other'
  await assert.rejects(new ListenerTable(1, SILENT_LOG, binder).bind(listeners('unix:/a')), /a file that is no socket/)
})

test('listener table: a path that was ours is taken from a worker that did not give its socket back, and no other path is', async () => {
  const binder = new FakeBinder()
  const before = new ListenerTable(1, SILENT_LOG, binder)
  await before.bind(listeners('unix:/a'))
  binder.unix = 'live'
  for (const [came, problem] of [['beside', null], [null, /another program listens there/]] as const) {
    const table = new ListenerTable(1, SILENT_LOG, binder)
    const listened: number[] = []
    table.restore(before.record(), 1, () => came, fd => { listened.push(fd) })
    assert.deepEqual([table.listeners, binder.unlinked], [[], []])
    if (problem === null) {
      await table.bind(listeners('unix:/a'))
      assert.deepEqual(binder.unlinked.splice(0), ['/a'])
      assert.deepEqual(listened, table.allDescriptors)
    } else await assert.rejects(table.bind(listeners('unix:/a')), problem)
  }
})

test('listener table: what is held stays, what is new is bound, more slots get sockets; on a fault all is as before', async () => {
  const binder = new FakeBinder()
  const table = new ListenerTable(1, SILENT_LOG, binder)
  await table.bind(listeners('127.0.0.1:80'))
  const [first] = table.allDescriptors
  binder.fail = call => call === '127.0.0.1:81' ? 'EADDRINUSE' : ''
  await assert.rejects(table.bind(listeners('127.0.0.1:80', '127.0.0.1:81'), 3), BindError)
  assert.deepEqual([table.allDescriptors, table.slots, binder.open.size], [[first], 1, 1])
  binder.fail = () => ''
  const described = listeners('127.0.0.1:80', '127.0.0.1:81')
  await table.bind(described, 2)
  const layout = table.layout(described, 1)
  assert.deepEqual(layout, { slots: 2, copies: 1, listeners: [{ name: 'l0', shared: false }, { name: 'l1', shared: false }] })
  assert.equal(table.descriptors(described, table.layout(described, 1))[0], first)
  assert.equal(binder.open.size, 4)
})

test('listener table: listeners that are not described any more are closed, whatever they are called now', async () => {
  const binder = new FakeBinder()
  const table = new ListenerTable(1, SILENT_LOG, binder)
  await table.bind(listeners('127.0.0.1:80', '127.0.0.1:81', 'unix:/a'))
  const renamed = listeners('127.0.0.1:81').map(listener => ({ ...listener, name: 'other' }))
  table.retain(renamed, null)
  assert.deepEqual(table.listeners.map(({ bound }) => bound), ['127.0.0.1:81'])
  assert.deepEqual(binder.unlinked, ['/a'])
  assert.equal(table.descriptors(renamed, table.layout(renamed, 1)).length, 1)
})

test('listener table: dials are held off where a listener goes, and where that cannot be done nothing else changes', async () => {
  const binder = new FakeBinder()
  const table = new ListenerTable(2, SILENT_LOG, binder)
  await table.bind(listeners('127.0.0.1:80', '127.0.0.1:81', 'unix:/a'))
  const gone = table.listeners.find(({ bound }) => bound === '127.0.0.1:80')!.sockets.map(({ fd }) => fd)
  const ignored: number[] = []
  table.holdOff(listeners('127.0.0.1:81'), { ignoreDials: (fd: number) => { ignored.push(fd) } } as SystemCalls)
  assert.deepEqual(ignored, gone)
  table.holdOff(listeners('127.0.0.1:81'), { ignoreDials: () => { throw new Error('no filter here') } } as unknown as SystemCalls)
  table.holdOff([], null)
  assert.equal(table.listeners.length, 3)
  // The path is gone, and whoever binds it now keeps it.
  assert.deepEqual(binder.unlinked, ['/a'])
  table.retain([], null)
  assert.deepEqual([table.listeners.length, binder.unlinked], [0, ['/a']])
})

test('listener table: a path that cannot be removed does not keep its socket open', async () => {
  const binder = new FakeBinder()
  const table = new ListenerTable(1, SILENT_LOG, binder)
  await table.bind(listeners('unix:/a'))
  binder.unlink = () => { throw new Error('EROFS') }
  table.close(null)
  assert.equal(binder.open.size, 0)
})

test('listener table: sockets that came with the start are used by their address, the rest is left', async () => {
  const binder = new FakeBinder()
  const table = new ListenerTable(2, SILENT_LOG, binder)
  table.offer([{ fd: 7, bound: '127.0.0.1:80' }, { fd: 8, bound: '127.0.0.1:99' }])
  await table.bind(listeners('127.0.0.1:80'))
  // One was given, so the address is ours: it is not tried first.
  assert.deepEqual(binder.calls, ['127.0.0.1:80 reuse'])
  assert.deepEqual(table.allDescriptors, [7, 20])
  assert.deepEqual(table.takeUnused(), [{ fd: 8, bound: '127.0.0.1:99' }])
})

test('listener table: datagrams are refused in a sentence, and nothing is bound', async () => {
  const binder = new FakeBinder()
  const address = { kind: 'udp', host: '127.0.0.1', port: 53, ipv6Only: false } as const
  const dns = { name: 'dns', service: 'dns', address, canonical: canonicalAddress(address), backlog: 0 }
  assert.equal(dns.canonical, 'udp:127.0.0.1:53')
  await assert.rejects(new ListenerTable(1, SILENT_LOG, binder).bind([...listeners('127.0.0.1:53'), dns]), {
    code: 'EPROTONOSUPPORT',
    message: "udp:127.0.0.1:53 of service 'dns' cannot be bound: this version serves no datagrams; use a TCP or Unix address",
  })
  assert.deepEqual(binder.calls, [])
})
