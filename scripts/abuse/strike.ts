/** One attack, in a process of its own: `node strike.ts NAME TARGET-AS-JSON`. Prints what it did and saw, as JSON. */
import { ATTACKS } from './attacks/list.ts'
import type { Target } from './attack.ts'

const [, , name = '', target = ''] = process.argv
const attack = ATTACKS.find((each) => each.name === name)
if (attack === undefined) throw new Error(`no attack is named ${name}`)
const strike = await attack.strike(JSON.parse(target) as Target)
// Whatever it left open ends with it.
process.stdout.write(`${JSON.stringify(strike)}\n`, () => process.exit(0))
