// For `node --import`: says on stderr which modules of OpenTelemetry the process loads. With REFUSE_OPENTELEMETRY none can be loaded.
import { registerHooks } from 'node:module'

registerHooks({
  load(url, context, next) {
    if (!url.includes('/@opentelemetry/')) return next(url, context)
    if (process.env.REFUSE_OPENTELEMETRY !== undefined) throw new Error(`planned: ${url.split('/@opentelemetry/')[1]} is not there`)
    process.stderr.write(`loaded ${url}\n`)
    return next(url, context)
  },
})
