/**
 * CPU profiles of the process that serves: SIGUSR2 begins one, the next SIGUSR2 writes it to `<folder>/<pid>.cpuprofile`.
 * A signal, so that the same application works below the supervisor and on its own, and only the measured seconds are profiled.
 */
import { renameSync, writeFileSync } from 'node:fs'
import inspector from 'node:inspector/promises'
import path from 'node:path'

export function profileOnSignal(folder: string): void {
  const file = path.join(folder, `${process.pid}.cpuprofile`)
  writeFileSync(path.join(folder, `${process.pid}.profiles`), '')
  let session: inspector.Session | null = null
  process.on('SIGUSR2', () => {
    const open = session
    if (open === null) {
      session = new inspector.Session()
      session.connect()
      void begin(session)
    } else {
      session = null
      void end(open, file)
    }
  })
}

async function begin(session: inspector.Session): Promise<void> {
  await session.post('Profiler.enable')
  await session.post('Profiler.setSamplingInterval', { interval: 200 })
  await session.post('Profiler.start')
}

async function end(session: inspector.Session, file: string): Promise<void> {
  const { profile } = await session.post('Profiler.stop')
  session.disconnect()
  writeFileSync(`${file}.part`, JSON.stringify(profile))
  renameSync(`${file}.part`, file) // Whoever waits for the file never sees half of it.
}
