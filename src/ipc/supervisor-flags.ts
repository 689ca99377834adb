/**
 * Options of Node.js for the image of a supervisor; bin/cirque gives the same. It makes little garbage, never in a hurry, so a small
 * young generation does (**measured**: 6 MB less). Workers are not started with it: theirs is what makes requests cheap.
 */
export const SUPERVISOR_FLAGS: readonly string[] = ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=1']
