import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Router, type RouteMatch } from '../../src/kit/router.ts'
import { ask, requestOf } from './requests.ts'

function routerOf(...routes: readonly string[]): Router<string> {
  const router = new Router<string>()
  for (const route of routes) router.add(route, route)
  return router
}

function match(router: Router<string>, target: string, method = 'GET'): string | number {
  const found = router.match(requestOf(target, {}, method))
  return found.found ? found.value : found.status
}

test('router: a whole path wins over a parameter, and either over a prefix; of prefixes the longest', () => {
  const router = routerOf('/*', '/', '/a/*', '/a/b/*', '/a/b/c', '/a/:x/c', '/health')
  const expected: Record<string, string> = {
    '/': '/', '/x': '/*', '/health': '/health', '/health/': '/*', '/healthy': '/*', '/a': '/a/*', '/a/': '/a/*', '/ab': '/*',
    '/a/x': '/a/*', '/a/b': '/a/b/*', '/a/b/c': '/a/b/c', '/a/b/c/d': '/a/b/*', '/a/b/x/y': '/a/b/*', '/a/x/c': '/a/:x/c',
    '/a/x/d': '/a/*', '/a//c': '/a/*', '/a/b/?/a/x/c': '/a/b/*',
  }
  for (const [target, route] of Object.entries(expected)) assert.equal(match(router, target), route, target)
  assert.equal(match(routerOf('/a'), '/b'), 404)
  assert.equal(match(router, '*'), 404)
  assert.equal(match(router, 'http://a/health'), 404)
})

test('router: parameters are decoded, one segment each, and never empty', () => {
  const router = routerOf('/users/:id', '/users/:id/posts/:post', '/files/:name/*')
  const params = (target: string): unknown => {
    const found = router.match(requestOf(target))
    return found.found ? { ...found.params, rest: found.rest, pattern: found.pattern } : found.status
  }
  assert.deepEqual(params('/users/7?x=1'), { id: '7', rest: '', pattern: '/users/:id' })
  assert.deepEqual(params('/users/a%20b/posts/%C3%BC'), { id: 'a b', post: 'ü', rest: '', pattern: '/users/:id/posts/:post' })
  assert.deepEqual(params('/users/%ff'), { id: '%ff', rest: '', pattern: '/users/:id' })
  assert.deepEqual(params('/files/x/a%20b//c/'), { name: 'x', rest: 'a%20b/c/', pattern: '/files/:name/*' })
  assert.deepEqual(params('/files/x'), { name: 'x', rest: '', pattern: '/files/:name/*' })
  for (const target of ['/users', '/users/', '/users//posts/1', '/users/1/posts', '/users/1/2']) assert.equal(params(target), 404, target)
  // A name of Object's own is a parameter like others.
  const odd = new Router<number>().add('/:__proto__/:constructor', 1).match(requestOf('/a/b'))
  assert.deepEqual(odd.found && Object.entries(odd.params), [['__proto__', 'a'], ['constructor', 'b']])
})

test('router: a guarded prefix is not passed by another way of writing the same path', () => {
  const router = routerOf('/*', '/admin/*')
  for (const target of ['/admin', '/admin/', '/%61dmin', '/%61%64%6D%69n/x', '//admin', '//admin//x', '/admin/%ff', '/admin/%2e']) {
    assert.ok(match(router, target) === '/admin/*' || match(router, target) === 400, target)
  }
  const twoWays = [
    '/admin%2fx', '/x%2F..%2fadmin', '/x%5c..%5cadmin', '/x/../admin', '/x/./admin', '/x/%2e%2e/admin', '/%00admin', '/..', '/x/.',
  ]
  for (const target of twoWays) {
    assert.equal(match(router, target), 400, target)
  }
  // Dots that are no dot segments.
  for (const target of ['/.well-known/x', '/...', '/a..b', '/..a']) assert.equal(match(router, target), '/*', target)
})

test('router: a semicolon, at which some origins cut a segment, does not lead past a guard', () => {
  const router = routerOf('/*', '/admin/*', '/users/:id', '/users/me', '/open/*')
  // Tomcat takes each of them for a path below /admin, /users/me or /users; to others they are the site's.
  const twoWays = [
    '/admin;x', '/admin;x=1/rota', '/%61dmin;x', '/admin%3bx', '/;x/admin', '/;/admin', '/open/..;/admin', '/open/%2e%2e;x/admin',
    '/x/.;/y', '/users/me;v=1', '/users/;v=1', '/open/..%3b/admin',
  ]
  for (const target of twoWays) assert.equal(match(router, target), 400, target)
  const sound = {
    '/wiki/a;b': '/*', '/admin/a;b=1/c': '/admin/*', '/users/7;v=1': '/users/:id', '/open/a..;b': '/open/*', '/open;x=%': 400,
    '/open/;': '/open/*',
  }
  for (const [target, route] of Object.entries(sound)) assert.equal(match(router, target), route, target)
  assert.equal(match(routerOf('/a'), '/b;c'), 404)
  const found = router.match(requestOf('/users/7;v=1'))
  assert.deepEqual(found.found && { ...found.params }, { id: '7;v=1' })
})

test('router: a path without a route for the method is refused, and does not fall to a wider route', async () => {
  const router = routerOf('/*', 'GET /form', 'POST,PUT /form', 'DELETE /only/*', '/any', 'PATCH /any')
  assert.deepEqual(['GET', 'HEAD', 'POST', 'PUT'].map(method => match(router, '/form', method)),
    ['GET /form', 'GET /form', 'POST,PUT /form', 'POST,PUT /form'])
  assert.deepEqual(['GET', 'PATCH', 'TRACE'].map(method => match(router, '/any', method)), ['/any', 'PATCH /any', '/any'])
  assert.equal(match(router, '/form', 'get'), 405)
  assert.equal(match(router, '/only/x', 'GET'), 405)
  const answers: readonly (readonly [string, string, number, string | undefined])[] = [
    ['/form', 'DELETE', 405, 'GET, POST, PUT, HEAD'], ['/only/x', 'GET', 405, 'DELETE'], ['/a%2fb', 'GET', 400, undefined],
  ]
  for (const [target, method, status, allow] of answers) {
    const answer = await ask(session => {
      const found: RouteMatch<string> = router.match(session.request)
      return found.found ? 'continue' : found.respond(session)
    }, { target, method })
    assert.deepEqual([answer.status, answer.headers.get('allow')], [status, allow])
  }
})

test('router: routes that make no sense, or stand there already, are refused with what would do', () => {
  const wrong: Record<string, RegExp> = {
    'a': /does not begin with a slash/, '': /does not begin/, '/a?b': /has a \?/, '/a#b': /has a \?, a #/, '/a\\b': /backslash/,
    '/a;b': /has a semicolon/, 'get /a': /has "get" before the path; use methods in capitals/,
    '/a//b': /two slashes/, '/a/../b': /dot segment/, '/%61': /is encoded/, '/a*': /a \* that is not/, '/*/a': /a \* that is not/,
    '/:': /the parameter :/,
    '/:a-b': /letters, digits/, 'GET  /a': /does not begin/, 'GET, POST /a': /before the path/, '/:a/:a': /two parameters of one name/,
  }
  for (const [route, message] of Object.entries(wrong)) assert.throws(() => routerOf(route), message, route)
  assert.throws(() => routerOf('/a', '/a'), /"\/a" is there already/)
  assert.throws(() => routerOf('GET /a', 'POST,GET /a'), /is there already/)
  assert.throws(() => routerOf('GET /:a', 'POST /:b'), /with other names/)
})

/** What the page says, read slowly: of all routes that fit, the one that wins segment by segment from the left. */
function slowly(routes: readonly string[], path: string): string | 404 {
  const segments = path.slice(1).split('/').filter((segment, at, all) => segment !== '' || at === all.length - 1)
  const fitting = routes.filter(route => {
    const parts = route.slice(1).split('/'), open = parts.at(-1) === '*'
    if (open) parts.pop()
    if (open ? segments.length < parts.length : segments.length !== parts.length) return false
    return parts.every((part, at) => part.startsWith(':') ? segments[at] !== '' : part === segments[at])
  })
  // '' ends a list of segments: behind everything but a `*` that stands for nothing.
  const rankOf = (part: string): string => part === '*' ? '3' : part.startsWith(':') ? '2' : '1'
  const rank = (route: string): string => route.slice(1).split('/').map(rankOf).join('')
  return fitting.toSorted((a, b) => rank(a) < rank(b) ? -1 : 1)[0] ?? 404
}

test('router: whatever the routes and the path are, it finds what a slow search finds', () => {
  const segment = fc.constantFrom('a', 'b', 'c', ':x', '')
  const route = fc.tuple(fc.array(segment, { minLength: 1, maxLength: 4 }), fc.boolean()).map(([segments, open]) => {
    const named = segments.filter((one, at) => one !== '' || (at === segments.length - 1 && !open))
    const parts = named.map((one, at) => one === ':x' ? `:p${at}` : one)
    if (open) parts.push('*')
    return `/${parts.join('/')}`
  })
  const path = fc.array(fc.constantFrom('a', 'b', 'c', 'd', ''), { maxLength: 5 }).map(segments => `/${segments.join('/')}`)
  fc.assert(fc.property(fc.uniqueArray(route, { maxLength: 12 }), fc.array(path, { maxLength: 8 }), (routes, paths) => {
    const router = routerOf(...routes)
    for (const one of paths) assert.equal(match(router, one), slowly(routes, one), `${one} in ${routes.join(' ')}`)
  }), { numRuns: 2000 })
})

test('router: a parameter is what decodeURIComponent makes of it, and stays where that would throw', t => {
  const expected = (text: string): string => {
    try {
      return decodeURIComponent(text)
    } catch {
      return text
    }
  }
  const edges = [0xc0, 0xc1, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0x80, 0x8f, 0x9f, 0xa0]
  const octet = fc.oneof(fc.integer({ min: 0x01, max: 0xff }), fc.constantFrom(...edges))
  const encoded = octet.filter(code => code !== 0x2f && code !== 0x5c && code !== 0x3b && code !== 0x2e)
    .map(code => `%${code.toString(16).padStart(2, '0')}`)
  const letter = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 1 }).filter(one => !/[./\\;\0]/.test(one) && one.isWellFormed())
  const unit = fc.oneof(encoded, letter.map(encodeURIComponent), fc.constantFrom('a', '%', '%4', '%C3%BC', '%F4%8F%BF%BF'))
  const router = routerOf('/:x')
  fc.assert(fc.property(fc.array(unit, { minLength: 1, maxLength: 6 }), units => {
    const found = router.match(requestOf(`/${units.join('')}`))
    assert.deepEqual(found.found && found.params['x'], expected(units.join('')))
  }), { numRuns: 3000 })
  // A throw for each of its segments would make a path of 8 kB cost milliseconds.
  const { mock } = t.mock.method(globalThis, 'decodeURIComponent')
  assert.equal(match(routerOf('/*'), '/%ff/%c3/%e2%82/%ed%a0%80/%fc'.repeat(100)), '/*')
  assert.deepEqual(mock.calls.filter(call => call.error !== undefined), [])
})

test('router: any target at all gives an answer', () => {
  const router = routerOf('/*', '/a/:b/c', '/a/*', '/:x/:y/:z/*')
  const unit = fc.constantFrom('/', '.', '%', '2', 'f', 'e', '5', 'c', '0', 'a', 'b', '?', '#', '\\', ';', '\u00ff', '*')
  fc.assert(fc.property(fc.string({ unit, maxLength: 24 }), text => { match(router, `/${text}`) }), { numRuns: 5000 })
})
