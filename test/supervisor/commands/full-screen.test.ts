import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import fc from 'fast-check'
import { FullScreen, keysIn } from '../../../supervisor/commands/full-screen.ts'
import { cell } from '../../../supervisor/commands/text-table.ts'

const OWN_SCREEN = '\u001B[?1049h\u001B[?25l'
const USUAL_SCREEN = '\u001B[?25h\u001B[?1049l'

class FakeTerminal extends EventEmitter {
  written = ''
  columns = 100
  rows = 30
  isTTY = true
  raw = false
  paused = false
  write(text: string): boolean { this.written += text; return true }
  setRawMode(raw: boolean): this { this.raw = raw; return this }
  resume(): this { this.paused = false; return this }
  pause(): this { this.paused = true; return this }
}

function opened(colours = false): { terminal: FakeTerminal; screen: FullScreen; heard: string[] } {
  const terminal = new FakeTerminal()
  const heard: string[] = []
  const screen = new FullScreen(terminal as never, terminal as never, colours, {
    onKey: key => { heard.push(key) }, onResize: () => { heard.push('resized') },
  })
  screen.open()
  return { terminal, screen, heard }
}

test('full screen: keys have names in each form that terminals send, and what means nothing is left out whole', () => {
  assert.deepEqual(keysIn('q\t\u001B[A\u001BOB\u001B[C\u001B[1;5D\u001B[Z\u001B[5~\u001B[6~\u0003\u001A'), [
    'q', 'tab', 'up', 'down', 'right', 'left', 'back-tab', 'page-up', 'page-down', 'interrupt', 'suspend',
  ])
  assert.deepEqual(keysIn('\u001B[15~\u001B\u001B[?25lx\u001BOP'), ['x'])
  fc.assert(fc.property(fc.string({ unit: 'binary' }), typed => { for (const key of keysIn(typed)) assert.ok(!key.includes('\u001B')) }))
})

test('full screen: lines are drawn from the top, and what was below them goes', () => {
  const { terminal, screen } = opened(true)
  assert.equal(terminal.written, OWN_SCREEN)
  assert.deepEqual([terminal.raw, screen.size], [true, { columns: 100, rows: 30 }])
  terminal.written = ''
  screen.draw([[cell('one', 'bad')], [cell('two')]])
  assert.equal(terminal.written, '\u001B[H\u001B[31mone\u001B[m\u001B[K\ntwo\u001B[K\u001B[J')
  screen.close()
})

test('full screen: the terminal is given back as it was, once, and nothing is written or heard behind that', () => {
  const { terminal, screen, heard } = opened()
  const listeners = process.listenerCount('exit')
  terminal.emit('data', Buffer.from('x'))
  terminal.emit('resize')
  screen.close()
  screen.close()
  assert.equal(terminal.written, OWN_SCREEN + USUAL_SCREEN)
  assert.deepEqual([terminal.raw, terminal.paused, heard], [false, true, ['x', 'resized']])
  screen.draw([[cell('late')]])
  terminal.emit('data', Buffer.from('y'))
  assert.equal(terminal.written, OWN_SCREEN + USUAL_SCREEN)
  assert.equal(heard.length, 2)
  assert.equal(process.listenerCount('exit'), listeners - 1)
})

test('full screen: a process that ends without closing it gives the terminal back, and a continued one takes it again', () => {
  const { terminal, screen, heard } = opened()
  // As Node.js says it at the end of the process.
  const onExit = process.listeners('exit').at(-1)!
  onExit.call(process, 1)
  assert.deepEqual([terminal.written, terminal.raw], [OWN_SCREEN + USUAL_SCREEN, false])
  process.listeners('SIGCONT').at(-1)!.call(process, 'SIGCONT')
  assert.deepEqual([terminal.written, terminal.raw, heard], [OWN_SCREEN + USUAL_SCREEN + OWN_SCREEN, true, ['resized']])
  screen.close()
})

test('full screen: what nobody caught is told where it can be read', () => {
  const { terminal, screen } = opened()
  // As Node.js says it before it writes what it was.
  process.listeners('uncaughtExceptionMonitor').at(-1)!.call(process, new Error('x'), 'uncaughtException')
  assert.equal(terminal.written, OWN_SCREEN + USUAL_SCREEN)
  screen.close()
  assert.equal(process.listenerCount('uncaughtExceptionMonitor'), 0)
  assert.equal(terminal.written, OWN_SCREEN + USUAL_SCREEN)
})

test('full screen: a terminal that does not say how large it is has the usual size', () => {
  const { terminal, screen } = opened()
  terminal.columns = terminal.rows = 0
  assert.deepEqual(screen.size, { columns: 80, rows: 24 })
  screen.close()
})
