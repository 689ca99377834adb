/**
 * Applications and configurations that are wrong, and what a person is told: each at the first moment at which it can be known, with file
 * and line, and with what would do. `says` is the place of the code frame, and the whole message.
 *
 * Hooks that fail are in wrong-hooks.process.test.ts. What can only be seen of a process (an application that never comes to
 * runForever(), or is killed) is in the test of describe-application, and ports of the application's own are in
 * test/workers/own-ports.test.ts.
 * One idea in more than 500 lines: a table is read side by side.
 */
import assert from 'node:assert/strict'
import net from 'node:net'
import test, { type TestContext } from 'node:test'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { WrongFolder, type WrongApplication } from '../support/wrong-applications.ts'

type Loaded = Readonly<Record<string, WrongApplication & { readonly says: string }>>

// The first line of each application imports the package.

function hooks(members: string): string {
  return `const app = { upstreamPeer: () => new HttpPeer('127.0.0.1:1'), ${members} }\nhttpProxyService(app)`
}

function service(rest: string): string {
  return `const app = { upstreamPeer: () => new HttpPeer('127.0.0.1:1') }\nhttpProxyService(app${rest}`
}

function server(lines: string): string {
  return `const app = { upstreamPeer: () => new HttpPeer('127.0.0.1:1') }\nconst server = new Server()\n${lines}\nawait server.runForever()`
}

const HOOKS: Loaded = {
  'a hook with a typo': {
    app: hooks('requestFiler() {}'),
    says: 'app.ts:3:1 the application has requestFiler(), which is no hook; call it requestFilter, or _requestFiler if it ' +
      'is a method of your own',
  },
  'a hook with a typo in a class': {
    app: [
      'class Gateway {',
      `  upstreamPeer() { return new HttpPeer('127.0.0.1:1') }`,
      '  reqestFilter() {}',
      '}',
      'httpProxyService(new Gateway())',
    ].join('\n'),
    says: 'app.ts:6:1 class Gateway has reqestFilter(), which is no hook; call it requestFilter, or _reqestFilter if it is ' +
      'a method of your own',
  },
  'a hook with a typo in a class above': {
    app: [
      'class Base { upstreamPeer() {} logging() {} requestfilter() {} }',
      'class Gateway extends Base {}',
      'httpProxyService(new Gateway())',
    ].join('\n'),
    says: 'app.ts:4:1 class Gateway has requestfilter(), which is no hook; call it requestFilter, or _requestfilter if it ' +
      'is a method of your own',
  },
  'the name that it has in Pingora': {
    app: hooks('request_filter() {}'),
    says: 'app.ts:3:1 the application has request_filter(), which is no hook; call it requestFilter, or _request_filter if ' +
      'it is a method of your own',
  },
  'two typos': {
    app: hooks('loging() {}, responsFilter() {}'),
    says: 'app.ts:3:1 the application has loging(), which is no hook; call it logging, or _loging if it is a method of your ' +
      'own\nthe application has responsFilter(), which is no hook; call it responseFilter, or _responsFilter if it is a ' +
      'method of your own',
  },
  'a hook that is no method': {
    app: hooks(`requestFilter: 'continue'`),
    says: 'app.ts:3:1 requestFilter of the application is "continue"; use a method',
  },
  'a peer in the place of upstreamPeer': {
    app: `httpProxyService({ upstreamPeer: new HttpPeer('127.0.0.1:1') })`,
    says: 'app.ts:2:1 upstreamPeer of the application is an object; use a method',
  },
  'no upstreamPeer': {
    app: `httpProxyService({ requestFilter: () => 'continue' })`,
    says: 'app.ts:2:1 the application has no upstreamPeer(session, ctx); it says where a request goes',
  },
  'no application': {
    app: 'httpProxyService()',
    says: 'app.ts:2:1 the application is undefined; use an object with upstreamPeer',
  },
  'a class in the place of an object': {
    app: `class Gateway { upstreamPeer() { return new HttpPeer('127.0.0.1:1') } }\nhttpProxyService(Gateway)`,
    says: 'app.ts:3:1 the application is a class or function; use an object: new Gateway()',
  },
  'a hook of modules': {
    app: hooks('responseDone() {}'),
    says: 'app.ts:3:1 the application has responseDone(), a hook that only a module has; call it _responseDone if it is a ' +
      'method of your own',
  },
  'a module with a hook of applications': {
    app: hooks(`modules: [{ name: 'limits', upstreamPeer() {} }]`),
    says: 'app.ts:3:1 module limits has upstreamPeer(), a hook that only an application has; call it _upstreamPeer if it is ' +
      'a method of your own',
  },
  'a module with a typo': {
    app: hooks(`modules: [{ name: 'limits', requestFiltr() {} }]`),
    says: 'app.ts:3:1 module limits has requestFiltr(), which is no hook; call it requestFilter, or _requestFiltr if it is ' +
      'a method of your own',
  },
  'a module without a name': {
    app: hooks(`modules: [{ requestFilter: () => 'continue' }]`),
    says: 'app.ts:3:1 modules[0] of the application has no name; messages name it by that',
  },
  'a module that is a class': {
    app: [
      `class Limits { name = 'limits' }`,
      `httpProxyService({ upstreamPeer: () => new HttpPeer('127.0.0.1:1'), modules: [Limits] })`,
    ].join('\n'),
    says: 'app.ts:3:1 modules[0] of the application is a class or function; use an object: new Limits()',
  },
  'modules that are no list': {
    app: hooks(`modules: { name: 'limits' }`),
    says: 'app.ts:3:1 modules of the application is an object; use a list of modules',
  },
  'keepsLength of what there is not': {
    app: hooks('keepsLength: { upload: true }'),
    says: 'app.ts:3:1 keepsLength of the application has upload; use request and response',
  },
}

const OPTIONS: Loaded = {
  'an unknown option': {
    app: service(', { hookTimeout: 5 })'),
    says: 'app.ts:3:1 httpProxy.hookTimeout is not an option; use hookTimeoutMs',
  },
  'several wrong options': {
    app: service(`, { name: '', hookTimeoutMs: '5s', showRequestId: 1 })`),
    says: 'app.ts:3:1 httpProxy.name is ""; use a name of at least one character\nhttpProxy.hookTimeoutMs is "5s"; use 0 ' +
      '(turns it off) or a positive number of milliseconds\nhttpProxy.showRequestId is 1; use true or false',
  },
  'an unknown option of a listener': {
    app: service(`).addTcp(':8080', { headTimeout: 5 })`),
    says: 'app.ts:3:23 listener.headTimeout is not an option; use headTimeoutMs',
  },
  'an option of a listener, given to the service': {
    app: service(', { maxConnections: 5 })'),
    says: 'app.ts:3:1 httpProxy.maxConnections is not an option here; give it to listener',
  },
  'options that are none': {
    app: service(', 5)'),
    says: 'app.ts:3:1 httpProxy is 5; use an object of options',
  },
  'a number to listen on': {
    app: service(').addTcp(8080)'),
    says: `app.ts:3:23 address is 8080; use 'host:port', '[v6]:port', ':port' or 'unix:/path?mode=660'`,
  },
  'a port alone to listen on': {
    app: service(`).addTcp('8080')`),
    says: `app.ts:3:23 address is "8080"; use 'host:port', '[v6]:port', ':port' or 'unix:/path?mode=660'`,
  },
  'a port that is no port': {
    app: service(`).addTcp('127.0.0.1:99999')`),
    says: 'app.ts:3:23 address is "127.0.0.1:99999"; use a port from 0 to 65535',
  },
  'a URL to listen on': {
    app: service(`).addTcp('http://127.0.0.1:8080')`),
    says: `app.ts:3:23 address is "http://127.0.0.1:8080"; use 'host:port', '[v6]:port', ':port' or 'unix:/path?mode=660'`,
  },
  'a Unix path for addTcp': {
    app: service(`).addTcp('unix:/run/app.sock')`),
    says: 'app.ts:3:23 addTcp was given unix:/run/app.sock; use addUnix',
  },
  'a relative Unix path': {
    app: service(`).addUnix('app.sock')`),
    says: `app.ts:3:23 address is "unix:app.sock"; use an absolute path: 'unix:/run/app.sock'`,
  },
  'a peer without a port': {
    app: `new HttpPeer('origin.example')`,
    says: 'app.ts:2:1 address "origin.example" has no port; use host:port, [v6]:port or unix:/path',
  },
  'a peer that is a URL': {
    app: `new HttpPeer('https://origin.example/')`,
    says: 'app.ts:2:1 address "https://origin.example/" is a URL; use host:port, [v6]:port or unix:/path',
  },
  'a peer that is a number': {
    app: 'new HttpPeer(8080)',
    says: 'app.ts:2:1 address is 8080; use host:port, [v6]:port or unix:/path',
  },
  'a peer of a variable that is not set': {
    app: 'new HttpPeer(process.env.NO_SUCH_ORIGIN)',
    says: 'app.ts:2:1 address is undefined; use host:port, [v6]:port or unix:/path',
  },
  'a peer of half an IPv4 address': {
    app: `new HttpPeer('127.1:80')`,
    says: 'app.ts:2:1 host "127.1" ends in a number but is no IP address; write all four parts in decimal',
  },
  'an unknown option of a peer': {
    app: `new HttpPeer('127.0.0.1:1', { connectTimeout: 5 })`,
    says: 'app.ts:2:1 peer.connectTimeout is not an option; use connectTimeoutMs',
  },
  'a negative timeout of a peer': {
    app: `new HttpPeer('127.0.0.1:1', { readTimeoutMs: -1 })`,
    says: 'app.ts:2:1 peer.readTimeoutMs is -1; use a positive number of milliseconds',
  },
  'an unknown selection': {
    app: `LoadBalancer.from(['127.0.0.1:1'], { selection: 'roundrobin' })`,
    says: 'app.ts:2:14 upstream.selection is "roundrobin"; use round-robin, random, hash, ketama, least-in-flight or a Selection',
  },
  'a balancer without backends': {
    app: 'LoadBalancer.from([])',
    says: 'app.ts:2:14 upstream.backends is empty; give at least one, or set upstream.allowEmpty',
  },
  'a balancer with a bad backend': {
    app: `LoadBalancer.from(['127.0.0.1:1', 'origin.example'])`,
    says: 'app.ts:2:14 upstream.backends[1]: address "origin.example" has no port; use host:port, [v6]:port or unix:/path',
  },
  'a health check that is its options': {
    app: `LoadBalancer.from(['127.0.0.1:1'], { healthCheck: { path: '/health' } })`,
    says: 'app.ts:2:14 upstream.healthCheck is a value of type object; use a health check, such as new HttpHealthCheck(), or null',
  },
  'an unknown option of a health check': {
    app: 'new HttpHealthCheck({ interval: 5 })',
    says: 'app.ts:2:1 healthCheck.interval is not an option; use intervalMs',
  },
  'a self-test with a wrong path': {
    app: `new Server().selfTest({ path: 'health' })`,
    says: 'app.ts:2:14 selfTest.path is "health"; use a path that begins with /',
  },
  'a limit with a typo': {
    app: 'new Server().limits({ maxConnection: 5 })',
    says: 'app.ts:2:14 limits.maxConnection is not an option; use maxConnections',
  },
}

const SERVERS: Loaded = {
  'a class as a function': {
    app: 'Server()',
    says: `app.ts:2:1 Class constructor Server cannot be invoked without 'new'`,
  },
  'a method that there is not': {
    app: 'const server = new Server()\nserver.addHttpService()',
    says: 'app.ts:3:8 server.addHttpService is not a function',
  },
  'a server without services': {
    app: 'await new Server().runForever()',
    says: 'app.ts:2:20 the server has no services, so it would do nothing; add one: ' +
      `server.addService(httpProxyService(app).addTcp('127.0.0.1:8080'))`,
  },
  'a service without a listener': {
    app: server('server.addService(httpProxyService(app))'),
    says: `app.ts:5:14 service 'http-proxy' has no listener, so no client could reach it; give it an address where you make ` +
      `it: httpProxyService(app).addTcp('127.0.0.1:8080')`,
  },
  'an application as a service': {
    app: server('server.addService(app)'),
    says: 'app.ts:4:8 addService was given an application; use httpProxyService(app), with a listener',
  },
  'a balancer as a service': {
    app: `new Server().addService(LoadBalancer.from(['127.0.0.1:1']))`,
    says: 'app.ts:2:14 addService was given what is no service itself; use its asBackgroundService()',
  },
  'an address twice': {
    app: server(`server.addService(httpProxyService(app).addTcp('127.0.0.1:0').addTcp('127.0.0.1:0'))`),
    says: `app.ts:5:14 two listeners are called 'http-proxy/127.0.0.1:0'; add each address once`,
  },
  'the maker of services as a service': {
    app: 'new Server().addService(httpProxyService)',
    says: 'app.ts:2:14 addService was given no service; use httpProxyService(app), or an object with kind, name and start()',
  },
  'two services with one name': {
    app: server([
      `server.addService(httpProxyService(app).addTcp('127.0.0.1:0'))`,
      `server.addService(httpProxyService(app).addTcp('127.0.0.1:0'))`,
    ].join('\n')),
    says: `app.ts:5:8 two services are called 'http-proxy'; give each its own name`,
  },
  'a dependency that there is not': {
    app: server(`server.addService(httpProxyService(app).addTcp('127.0.0.1:0')).dependsOn('database')`),
    says: `app.ts:5:14 service 'http-proxy' depends on 'database', which was not added to this server`,
  },
  'services that wait for each other': {
    app: server([
      `const a = server.addService({ kind: 'background', name: 'a', start() {} })`,
      `a.dependsOn(server.addService({ kind: 'background', name: 'b', start() {} }).dependsOn(a))`,
    ].join('\n')),
    says: 'app.ts:6:14 services depend on each other in a circle: a -> b -> a; remove one of these dependencies',
  },
}

const MODULES: Loaded = {
  'an error': {
    app: `const port = 1\nthrow new Error('the secret is missing')`,
    says: 'app.ts:3:7 the secret is missing',
  },
  'what is no error': {
    app: `throw 'the secret is missing'`,
    says: 'it threw "the secret is missing", which is no Error and says of no place',
  },
  'a rejection': {
    app: `await Promise.reject(new Error('the database is away'))`,
    says: 'app.ts:2:22 the database is away',
  },
  'an error in an imported file': {
    app: `import './config.ts'`,
    files: { 'config.ts': `export const config = JSON.parse('{ "a" }')\n` },
    says: `config.ts:1:28 Expected ':' after property name in JSON at position 6 (line 1 column 7)`,
  },
  'a variable with a typo': {
    app: 'await sever.runForever()',
    says: 'app.ts:2:1 sever is not defined',
  },
  'a decorator': {
    app: 'const log = (method: unknown) => method\nclass Gateway {\n  @log\n  requestFilter() {}\n}',
    says: 'app.ts:4:3 app.ts:4: Invalid or unexpected token: decorators are not JavaScript yet, and Node.js only takes the ' +
      'types out; call the decorating function yourself',
  },
  'an enum': {
    app: 'enum Color { Red }',
    says: 'app.ts:2:1 app.ts:2: TypeScript enum is not supported in strip-only mode: Node.js only takes the types out; use ' +
      'an object `as const`, or a union of literals',
  },
  'a parameter property': {
    app: 'class Gateway {\n  constructor(private origin: string) {}\n}',
    says: 'app.ts:3:23 app.ts:3: TypeScript parameter property is not supported in strip-only mode: Node.js only takes the ' +
      'types out; declare the field and assign it in the constructor',
  },
  'a namespace': {
    app: 'namespace routes { export const all = 1 }',
    says: 'app.ts:2:1 app.ts:2: TypeScript namespace declaration is not supported in strip-only mode: Node.js only takes ' +
      'the types out; use a module of its own',
  },
  'import =': {
    app: `import fs = require('node:fs')`,
    says: 'app.ts:2:1 app.ts:2: TypeScript import equals declaration is not supported in strip-only mode: Node.js only ' +
      'takes the types out; use `import x from \'x\'`',
  },
  'export =': {
    app: 'export = {}',
    says: 'app.ts:2:1 app.ts:2: TypeScript export assignment is not supported in strip-only mode: Node.js only takes the ' +
      'types out; use `export default`',
  },
  'a type in angle brackets': {
    app: 'const port = <number>process.env.PORT',
    says: 'app.ts:2:14 app.ts:2: The angle-bracket syntax for type assertions, `<T>expr`, is not supported in type strip ' +
      'mode. Instead, use the \'as\' syntax: `expr as T`.',
  },
  'a type of the package, imported as a value': {
    app: `import { ProxyHttp } from 'cirque'`,
    says: `app.ts:2:10 app.ts:2: The requested module 'cirque' does not provide an export named 'ProxyHttp'; if it is a ` +
      'type, say so, because types are gone when it runs: `import { type ProxyHttp } from \'cirque\'`',
  },
  'a type of a file, imported as a value': {
    app: `import { Route } from './routes.ts'`,
    files: { 'routes.ts': 'export interface Route { path: string }\n' },
    says: `app.ts:2:10 app.ts:2: The requested module './routes.ts' does not provide an export named 'Route'; if it is a ` +
      'type, say so, because types are gone when it runs: `import { type Route } from \'./routes.ts\'`',
  },
  'an export with a typo': {
    app: `import { rotues } from './routes.ts'`,
    files: { 'routes.ts': 'export const routes = 1\n' },
    says: `app.ts:2:10 app.ts:2: The requested module './routes.ts' does not provide an export named 'rotues'; it has routes`,
  },
  'an export of the package with a typo': {
    app: `import { injct } from 'cirque'`,
    says: `app.ts:2:10 app.ts:2: The requested module 'cirque' does not provide an export named 'injct'; it has inject`,
  },
  'a default export that there is not': {
    app: `import routes from './routes.ts'`,
    files: { 'routes.ts': 'export const routes = 1\n' },
    says: `app.ts:2:8 app.ts:2: The requested module './routes.ts' does not provide an export named 'default'; name what ` +
      'you want: `import { routes } from \'./routes.ts\'`',
  },
  'a path without its ending': {
    app: `import './routes'`,
    files: { 'routes.ts': '' },
    says: `app.ts:2:8 app.ts:2: there is no routes; there is routes.ts: import './routes.ts', the name of a file with its ending`,
  },
  'the ending that a compiler would make': {
    app: `import './routes.js'`,
    files: { 'routes.ts': '' },
    says: `app.ts:2:8 app.ts:2: there is no routes.js; there is routes.ts: import './routes.ts', the name of a file with its ending`,
  },
  'a folder': {
    app: `import './routes'`,
    files: { 'routes/index.ts': '' },
    says: `app.ts:2:8 app.ts:2: routes is a folder; there is routes/index.ts: import './routes/index.ts', the name of a ` +
      'file with its ending',
  },
  'a file that there is not': {
    app: `import './gone.ts'`,
    says: 'app.ts:2:8 app.ts:2: there is no gone.ts',
  },
  'a package that is not installed': {
    app: `import yaml from 'no-such-package'`,
    says: 'app.ts:2:18 app.ts:2: there is no package no-such-package; run `npm install no-such-package` in FOLDER',
  },
  'JSX in .ts': {
    app: 'export const page = <b>hello</b>',
    says: 'app.ts:2:30 app.ts:2: Expression expected; if this is JSX, Node.js runs none',
  },
  '.tsx': {
    app: `import './page.tsx'`,
    files: { 'page.tsx': 'export const page = 1\n' },
    says: 'app.ts:2:8 app.ts:2: Unknown file extension ".tsx" for page.tsx; Node.js runs no JSX: call it .ts when there is ' +
      'none in it',
  },
  'JSON without its attribute': {
    app: `import config from './config.json'`,
    files: { 'config.json': '{}' },
    says: 'app.ts:2:20 app.ts:2: Module "file://config.json" needs an import attribute of "type: json": import it `with { ' +
      'type: \'json\' }`',
  },
  'require': {
    app: `const fs = require('node:fs')`,
    says: 'app.ts:2:12 app.ts:2: require is not defined in ES module scope (package.json:2 says "type": "module"); import ' +
      'what it needs (`import x from \'x\'`), or make one: `createRequire(import.meta.url)` of node:module',
  },
  '__dirname': {
    app: 'console.log(__dirname)',
    says: 'app.ts:2:13 app.ts:2: __dirname is not defined in ES module scope (package.json:2 says "type": "module"); use ' +
      '`import.meta.dirname`',
  },
  'module.exports': {
    app: 'module.exports = {}',
    says: 'app.ts:2:1 app.ts:2: module is not defined in ES module scope (package.json:2 says "type": "module"); use `export`',
  },
  'a package that says CommonJS': {
    app: '',
    files: { 'package.json': '{ "type": "commonjs" }\n' },
    says: 'app.ts:1:1 app.ts:1: Cannot use import statement outside a module; the file is loaded as CommonJS, because ' +
      'package.json:1 says "type": "commonjs"; say "type": "module" there, or call the file app.mts',
  },
  'a syntax error': {
    app: 'const port = = 1',
    says: 'app.ts:2:14 app.ts:2: Expression expected',
  },
  'a syntax error in an imported file of JavaScript': {
    app: `import './port.js'`,
    files: { 'port.js': 'export const port = = 1\n' },
    says: `port.js:1:21 port.js:1: Unexpected token '='`,
  },
  'a brace that is missing': {
    app: 'const options = {\n  port: 1,',
    says: 'app.ts:3:1 app.ts:3: Unexpected token `<eof>`. Expected identifier, string literal, numeric literal or [ for the ' +
      'computed key',
  },
}

for (const [subject, rows] of Object.entries({ hooks: HOOKS, options: OPTIONS, servers: SERVERS, modules: MODULES })) {
  test(`wrong applications: ${subject} are told when they are loaded`, async t => {
    for (const [title, wrong] of Object.entries(rows)) {
      const said = await new WrongFolder(temporaryFolder(t)).load(wrong)
      assert.equal(said, wrong.says, title)
    }
  })
}

/** Of `server`. */
const STARTS: Readonly<Record<string, readonly [app: string, says: string]>> = {
  'an address of two services': [
    `for (const name of ['one', 'two']) server.addService(httpProxyService(app, { name }).addTcp('127.0.0.1:6189'))`,
    `127.0.0.1:6189 is asked for twice, by 'one/127.0.0.1:6189' and 'two/127.0.0.1:6189'; give one of them another address`,
  ],
  'a port in use': [
    'server.addService(httpProxyService(app).addTcp(`127.0.0.1:${process.env.PORT_IN_USE}`))',
    `127.0.0.1:PORT of service 'http-proxy' cannot be bound: the address is in use by another program; ` +
      'stop it (`ss -ltnp` shows it) or choose another port',
  ],
  'an address of another machine': [
    `server.addService(httpProxyService(app).addTcp('192.0.2.1:6189'))`,
    `192.0.2.1:6189 of service 'http-proxy' cannot be bound: this machine has no such address; use one of its own, or 0.0.0.0 for all`,
  ],
  'a Unix path in a folder that there is not': [
    `server.addService(httpProxyService(app).addUnix('/no/such/folder/app.sock'))`,
    `unix:/no/such/folder/app.sock of service 'http-proxy' cannot be bound: the folder does not exist; create it`,
  ],
  'a Unix path where a file is': [
    'server.addService(httpProxyService(app).addUnix(import.meta.filename))',
    `unix:app.ts of service 'http-proxy' cannot be bound: there is a file that is no socket; remove it or choose another path`,
  ],
  'a background service that throws': [
    `server.addService({ kind: 'background', name: 'routes', start() { throw new Error('no routes') } })`,
    'app.ts:4:73 no routes',
  ],
  'a background service that rejects': [
    `server.addService({ kind: 'background', name: 'routes', start: () => Promise.reject(new Error('no routes')) })`,
    'app.ts:4:85 no routes',
  ],
}

test('wrong applications: what cannot be started is told then', async t => {
  process.env['PORT_IN_USE'] = String(await portInUse(t))
  for (const [title, [app, says]] of Object.entries(STARTS)) {
    const wrong = new WrongFolder(temporaryFolder(t)), loaded = await wrong.load({ app: server(app) })
    assert.equal(typeof loaded === 'string' ? `loading: ${loaded}` : await wrong.start(loaded), says, title)
  }
})

async function portInUse(t: TestContext): Promise<number> {
  const other = net.createServer().listen(0, '127.0.0.1')
  t.after(() => { other.close() })
  await new Promise(resolve => { other.once('listening', resolve) })
  return (other.address() as net.AddressInfo).port
}

const CONFIGURATIONS: Readonly<Record<string, readonly [yaml: string, says: string]>> = {
  'no YAML': [
    'supervisor:\n  workers: [1\n',
    'cirque.yaml:3:1: found Flow sequence in block collection must be sufficiently indented and end with a ]; expected valid YAML 1.2',
  ],
  'a tab': ['supervisor:\n\tworkers: 1\n', 'cirque.yaml:2:1: found Tabs are not allowed as indentation; expected valid YAML 1.2'],
  'a list': ['- supervisor\n', 'cirque.yaml:1:1: found a list; expected sections such as supervisor, drain and log'],
  'an unknown section': ['superviser:\n  workers: 1\n', 'cirque.yaml:1:1: superviser: found an unknown key; expected supervisor'],
  'a section without keys': ['supervisor: 3\n', 'cirque.yaml:1:13: supervisor: found 3; expected a section with keys'],
  'an unknown key': ['supervisor:\n  wokers: 1\n', 'cirque.yaml:2:3: supervisor.wokers: found an unknown key; expected workers'],
  'a key of another section': [
    'supervisor:\n  soak: 5s\n', 'cirque.yaml:2:3: supervisor.soak: found an unknown key; expected upgrade.soak',
  ],
  'a key twice': [
    'supervisor:\n  workers: 1\n  workers: 2\n',
    'cirque.yaml:3:3: found the key "workers" for the second time; expected every key once',
  ],
  'a name as in code': [
    'upgrade:\n  soakMs: 10\n',
    'cirque.yaml:2:3: upgrade.soakMs: found an unknown key; expected soak, whose value has the unit, such as 10s',
  ],
  'text for a number': [
    'supervisor:\n  workers: many\n', 'cirque.yaml:2:12: supervisor.workers: found "many"; expected auto, or a whole number from 1 to 256',
  ],
  'a number that is too small': [
    'supervisor:\n  workers: -1\n', 'cirque.yaml:2:12: supervisor.workers: found -1; expected auto, or a whole number from 1 to 256',
  ],
  'a duration without a unit': [
    'upgrade:\n  soak: 10\n',
    'cirque.yaml:2:9: upgrade.soak: found 10; expected a duration with a unit (ms, s, m, h, d) such as 10s, or 0',
  ],
  'a size in an unknown unit': [
    'limits:\n  memoryBudget: 5 apples\n',
    'cirque.yaml:2:17: limits.memoryBudget: found "5 apples"; expected a size with a unit (B, kB, MB, GB, KiB, MiB, GiB) of at ' +
      'least 1MiB, such as 64KiB, or 0',
  ],
  'an unknown word': ['log:\n  format: xml\n', 'cirque.yaml:2:11: log.format: found "xml"; expected one of auto, text, json'],
  'two mistakes': [
    'supervisor:\n  wokers: 1\nlog:\n  format: xml\n',
    'cirque.yaml:2:3: supervisor.wokers: found an unknown key; expected workers\n' +
      'cirque.yaml:4:11: log.format: found "xml"; expected one of auto, text, json',
  ],
  'a listener that there is not': [
    'listeners:\n  http-proxy/127.0.0.1:81:\n    maxConnections: 5\n',
    'cirque.yaml:2:3: listeners.http-proxy/127.0.0.1:81: found the name of no listener; expected one of *, http-proxy/127.0.0.1:80',
  ],
  'an unknown key of a listener': [
    'listeners:\n  http-proxy/127.0.0.1:80:\n    maxConection: 5\n',
    'cirque.yaml:3:5: listeners.http-proxy/127.0.0.1:80.maxConection: found an unknown key; expected maxConnections',
  ],
}

test('wrong applications: a configuration is told with file, line, column and what would do', t => {
  for (const [title, [yaml, says]] of Object.entries(CONFIGURATIONS)) {
    assert.equal(new WrongFolder(temporaryFolder(t)).configure(yaml, ['http-proxy/127.0.0.1:80']), says, title)
  }
})
