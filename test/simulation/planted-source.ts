/**
 * A process in which one of our files has a bug: `planted-source PLANT SEEDS`, PLANT as JSON. The text is changed while the
 * file is loaded, so a bug can stand in any line, private or not. Writes the first seed that fails as a line of JSON.
 */
import { registerHooks } from 'node:module'
import type { RunResult } from './world.ts'

export interface SourcePlant {
  /** Path in the repository. */
  readonly file: string
  /** Each stands there exactly once, and is replaced. */
  readonly edits: readonly (readonly [found: string, instead: string])[]
}

export type PlantedOutcome = Pick<RunResult, 'seed' | 'failure'>

if (import.meta.main) {
  const [plant, seeds, from = '1'] = process.argv.slice(2)
  const outcome = await run(JSON.parse(plant!) as SourcePlant, Number(seeds), Number(from))
  process.stdout.write(`${JSON.stringify(outcome)}\n`)
}

async function run({ file, edits }: SourcePlant, seeds: number, from: number): Promise<PlantedOutcome> {
  let planted = false
  registerHooks({
    load(url, context, nextLoad) {
      const loaded = nextLoad(url, context)
      if (!url.endsWith(`/${file}`)) return loaded
      planted = true
      return { ...loaded, source: edits.reduce((text, [found, instead]) => replaceOnce(text, found, instead), String(loaded.source)) }
    },
  })
  // After the hook, so that it is loaded through it.
  const { runSeed } = await import('./world.ts')
  if (!planted) throw new Error(`${file} is not part of the simulation`)
  for (let seed = from; seed < from + seeds; seed++) {
    const { failure } = await runSeed(seed)
    if (failure !== '') return { seed, failure }
  }
  return { seed: 0, failure: '' }
}

function replaceOnce(text: string, found: string, instead: string): string {
  const parts = text.split(found)
  if (parts.length !== 2) throw new Error(`${JSON.stringify(found)} stands there ${parts.length - 1} times`)
  return parts.join(instead)
}
