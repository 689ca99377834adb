/** What a person at a terminal sees of a server that speaks TLS; test/integration/npm-start has the rest. */
import assert from 'node:assert/strict'
import path from 'node:path'
import test from 'node:test'
import { keepOwnCertificate, OWN_AUTHORITY_FOLDER } from '../../src/certificates/own-authority.ts'
import { LOG_DEFAULTS } from '../../src/config/log-options.ts'
import type { SupervisorStatus } from '../../supervisor/operator-desk.ts'
import { browsable, firstScreen } from '../../supervisor/run.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

test('first screen: a listener for TLS is opened by https, and an own authority is there to be trusted', t => {
  const stateDir = temporaryFolder(t), listener = { name: 'a', service: 'web', address: '', sockets: 1 }
  const listeners = [{ ...listener, bound: '127.0.0.1:6188' }, { ...listener, bound: '0.0.0.0:6189', tls: true as const }]
  const status = {
    version: '1', application: path.resolve('app.ts'), pid: 1, slots: [], listeners, admin: '', stateDir,
  } satisfies Partial<SupervisorStatus> as unknown as SupervisorStatus
  const shown = (given: SupervisorStatus): string => firstScreen(given, { log: LOG_DEFAULTS })
  assert.match(shown(status), /\n {2}open {6}http:\/\/127\.0\.0\.1:6188 {2}web\n {2}open {6}https:\/\/localhost:6189 {2}web\n/)
  assert.doesNotMatch(shown(status), /trust/)
  keepOwnCertificate(path.join(stateDir, OWN_AUTHORITY_FOLDER), ['localhost'], Date.now())
  assert.match(shown(status), /\n {2}trust {5}`curl --cacert \S+\/own-authority\/ca\.crt https:\/\/localhost:6189\/`\n/)
  assert.doesNotMatch(shown({ ...status, listeners: listeners.slice(0, 1) }), /trust/)
  assert.equal(browsable({ bound: '[::]:443', tls: true }), 'https://localhost:443')
})
