import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { FileWatch } from '../../supervisor/file-watch.ts'

/** A disk of which one sees what was written last, and a time that goes on by looks. */
class Disk {
  readonly files = new Map<string, string>()
  readonly told: string[][] = []
  look: () => void = () => {}
  stopped = false
  readonly watch = new FileWatch(files => { this.told.push([...files].sort()) }, {
    signature: file => this.files.get(file) ?? '',
    every: (_ms, run) => { this.look = run; return () => { this.stopped = true } },
  })
}

test('file watch: what is saved together is told together, once it is quiet', () => {
  const disk = new Disk()
  disk.watch.watch(['a', 'b', 'c'])
  disk.look()
  disk.files.set('a', '1')
  disk.look()
  disk.files.set('b', '1')
  disk.look()
  assert.deepEqual(disk.told, [], 'something still changes')
  disk.look()
  disk.look()
  assert.deepEqual(disk.told, [['a', 'b']])
  disk.watch.close()
  assert.ok(disk.stopped)
})

test('file watch: a file that comes, goes and comes again is told each time, and others never', () => {
  const disk = new Disk()
  disk.watch.watch(['a'])
  for (const now of ['1', '', '2']) {
    disk.files.set('a', now)
    disk.files.set('other', now)
    disk.look()
    disk.look()
  }
  assert.deepEqual(disk.told, [['a'], ['a'], ['a']])
})

test('file watch: no save is missed while the list changes', () => {
  const names = ['a', 'b', 'c']
  const list = fc.subarray(names).map(files => ({ list: ['a', ...files] }))
  const save = fc.constantFrom(...names).map(file => ({ save: file }))
  fc.assert(fc.property(fc.array(fc.oneof(list, save, fc.constant('look' as const))), steps => {
    const disk = new Disk()
    disk.watch.watch(['a'])
    let saves = 0
    for (const step of steps) {
      if (step === 'look') disk.look()
      else if ('list' in step) disk.watch.watch(step.list)
      else {
        disk.files.set(step.save, String(++saves))
        if (step.save === 'a') disk.told.length = 0
      }
    }
    const saved = steps.some(step => typeof step === 'object' && 'save' in step && step.save === 'a')
    disk.look()
    disk.look()
    assert.equal(disk.told.flat().includes('a'), saved)
  }))
})
