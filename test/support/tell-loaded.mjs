// For `node --import`: says on stderr which modules of OpenTelemetry the process loads.
import { registerHooks } from 'node:module'

registerHooks({
  load(url, context, next) {
    if (url.includes('/@opentelemetry/')) process.stderr.write(`loaded ${url}\n`)
    return next(url, context)
  },
})
