/**
 * The proof client, a process of its own: `node src/prove/main.ts '{"url":"http://127.0.0.1:6188"}'` watches and prints
 * one ProofReport as JSON on stdout; what it is doing goes to stderr. With `act` as its second argument it asks whoever
 * started it for an action over the IPC channel (src/config/prove-messages.ts). With such a channel it ends when the
 * other side does. Exit: 0 reported (whatever was lost), 1 nothing could be proven, 2 wrong options.
 */
import '../runtime-check.ts'
import { sharedNowMs, type FromProver, type Kill, type ToProver } from '../config/prove-messages.ts'
import { resolveProveOptions, type ProveOptions, type ResolvedProveOptions } from '../config/prove-options.ts'
import { formatDuration } from '../config/units.ts'
import { systemClock } from '../primitives/clock.ts'
import { CannotProve } from './preflight.ts'
import { Proof } from './proof.ts'

const Exit = { reported: 0, failed: 1, usage: 2 } as const

function say(text: string): void { process.stderr.write(`${text}\n`) }

function pause(ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  systemClock.after(ms, resolve)
  return promise
}

async function run(options: ResolvedProveOptions, act: boolean): Promise<void> {
  const proof = await Proof.prepare(options)
  let kill: Kill | null = null
  proof.start()
  if (!act) {
    say(`watching ${options.url} for ${formatDuration(options.forMs)}`)
    await pause(options.forMs)
  } else {
    say(`watching ${options.url} for ${formatDuration(options.beforeMs)} before anything happens`)
    await pause(options.beforeMs)
    kill = await action(proof)
    say(`watching for another ${formatDuration(options.forMs)}`)
    await pause(options.forMs)
  }
  say('finishing what was begun')
  await proof.finish()
  process.stdout.write(`${JSON.stringify(proof.report(kill))}\n`)
}

/** Asks for the action and waits until it is over. */
async function action(proof: Proof): Promise<Kill | null> {
  const { promise, resolve } = Promise.withResolvers<Kill | null>()
  const onMessage = (message: ToProver): void => {
    if (message.tag === 'begins') {
      proof.enter('during')
      return
    }
    proof.enter('after')
    const offset = systemClock.exact() - sharedNowMs()
    resolve(message.kill === null ? null : { atMs: message.kill.atMs + offset, goneAtMs: message.kill.goneAtMs + offset })
  }
  process.on('message', onMessage)
  const request: FromProver = { tag: 'act' }
  process.send?.(request)
  const kill = await promise
  process.off('message', onMessage)
  return kill
}

// Nobody is left who would read the report.
process.on('disconnect', () => process.exit(Exit.failed))
try {
  const options = JSON.parse(process.argv[2] ?? '{"url":""}') as ProveOptions
  const acts = process.argv[3] === 'act' && process.connected
  await run(resolveProveOptions(options), acts)
  process.exitCode = Exit.reported
} catch (error) {
  const usage = error instanceof Error && error.name === 'OptionError'
  if (usage || error instanceof CannotProve) say(error.message)
  else say(error instanceof Error ? error.stack ?? error.message : String(error))
  process.exitCode = usage ? Exit.usage : Exit.failed
}
// The channel alone would keep us here.
if (process.connected) process.channel?.unref()
