/** The origin behind every contender of the upgrade bench: that of the examples, in a process of its own. */
import { createOrigin } from '../../examples/demo-origins.ts'
import { listenPort } from './node-proxies/ports.ts'

createOrigin('origin').listen(listenPort, '127.0.0.1')
