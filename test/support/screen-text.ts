/** The lines that are left on the screen when nothing moves any more. */
export function leftOnScreen(shown: string): string[] {
  return shown.split('\n').map(line => line.split('\u001B[2K').at(-1)!.replaceAll('\r', '')).filter(line => line !== '')
}
