/**
 * The thread of loop-watch.ts: waits for beats of the main thread, and tells where that hangs when they fail to come.
 * Asleep but for one look in `lookMs`. Plain JavaScript without imports of ours, because whatever has to be stripped of types
 * would cost each worker the memory of the stripper; and no ES module, whose loader would cost it 0.5 MB and 8 ms (**measured**).
 */
'use strict'
const fs = require('node:fs')
const { workerData } = require('node:worker_threads')

/** Frames of a stack that are told. */
const MAX_FRAMES = 12
/** A line that several processes write to one pipe stays whole up to here. */
const MAX_LINE_BYTES = 4096
/** The main thread is in the middle of one call into native code when it does not stop within this, in ms. */
const PAUSE_LIMIT_MS = 2_000
/** A process that was stopped, or slept with its machine, beats within this once it goes on, in ms. */
const SECOND_LOOK_MS = 300

const { beats, lookMs, who, file, text } = workerData
const counter = new Int32Array(beats)
const asleep = new Int32Array(new SharedArrayBuffer(4))

/** Ends with the thread, unlike a call of the system. */
const sleep = ms => { Atomics.wait(asleep, 0, 0, ms) }

async function watch() {
  for (let told = -1; ;) {
    const before = Atomics.load(counter, 0)
    sleep(lookMs)
    if (Atomics.load(counter, 0) !== before || before === told) continue
    sleep(SECOND_LOOK_MS)
    if (Atomics.load(counter, 0) !== before) continue
    told = before
    const frames = await stackOfMain()
    if (Atomics.load(counter, 0) === before) tell(frames)
  }
}

/** @returns lines of the stack, the innermost first; empty: it does not stop. */
async function stackOfMain() {
  const { Session } = require('node:inspector')
  const session = new Session()
  session.connectToMainThread()
  try {
    return await new Promise(resolve => {
      setTimeout(resolve, PAUSE_LIMIT_MS, [])
      const files = new Map()
      session.on('Debugger.scriptParsed', ({ params: { scriptId, url } }) => { files.set(scriptId, url) })
      session.on('Debugger.paused', ({ params }) => resolve(params.callFrames.map(frame => lineOf(frame, files))))
      session.post('Debugger.enable')
      session.post('Debugger.pause')
    })
  } finally {
    // The end of the session lets the main thread go on.
    session.post('Debugger.disable')
    session.disconnect()
  }
}

function lineOf({ functionName, location }, files) {
  const file = (files.get(location.scriptId) ?? '').replace('file://', '')
  const place = `${file}:${location.lineNumber + 1}:${(location.columnNumber ?? 0) + 1}`
  return functionName === '' ? `at ${place}` : `at ${functionName} (${place})`
}

function tell(frames) {
  const msg = frames.length === 0
    ? 'the event loop hangs in one call of Node.js or of a native module, where no stack can be taken'
    : `the event loop hangs ${frames[0]}`
  let line
  for (let kept = MAX_FRAMES; kept >= 0; kept--) {
    line = lineWith(msg, frames.slice(0, kept))
    if (Buffer.byteLength(line) <= MAX_LINE_BYTES) break
  }
  // A full disk or a reader that is gone must not end the process.
  try {
    if (file === '') fs.writeSync(2, line)
    else fs.appendFileSync(file, line)
  } catch { /* There is nowhere to say it. */ }
}

function lineWith(msg, frames) {
  const stack = frames.map(frame => `    ${frame}`).join('\n')
  if (text) return `${who}: error: ${msg}\n${stack}\n`
  return `${JSON.stringify({ level: 'error', time: new Date().toISOString(), pid: process.pid, who, msg, stack })}\n`
}

void watch()
