/// <reference types="node" preserve="true" />
/**
 * `cirque/kit`: small things that most applications need, each by itself. They stand on what every application can call (`Session`,
 * `HeaderMap`, modules) and on nothing else, and an application that imports none of them pays for none.
 */
import '../runtime-check.ts'

// What a request says.
export { queryOf, setQuery } from './query.ts'
export { cookiesOf, setCookie, type CookieOptions } from './cookies.ts'
export { readJson, respondJson } from './json.ts'
export { hostOf, Hosts } from './hosts.ts'
export { Networks } from './networks.ts'
export { clientNetwork } from '../primitives/address-blocks.ts'

// Where it goes.
export { Router, type MatchedRoute, type RouteMatch, type RouteParams, type UnmatchedRoute } from './router.ts'
export { localPath, redirect, type RedirectStatus } from './redirect.ts'

// What is answered.
export { staticFiles, type StaticFiles, type StaticFilesOptions } from './static-files.ts'
export { canonicalHost, type CanonicalHostOptions } from './canonical-host.ts'
export { schemeOf } from './client-scheme.ts'
export { cors, type CorsOptions, type OriginCheck } from './cors.ts'
export { grpcWeb } from '../modules/grpc-web.ts'
export { securityHeaders, type SecurityHeaderOptions } from './security-headers.ts'

// What it is served with.
export { ownCertificate, type OwnCertificate, type OwnCertificateOptions } from './own-certificate.ts'

// Who may.
export type { Guard } from './credentials.ts'
export { sameSecret } from './credentials.ts'
export { basicAuth, basicCredentials, type BasicAuthOptions, type PasswordCheck } from './basic-auth.ts'
export { bearerAuth, type BearerAuthOptions, type TokenCheck, type TokenVerdict } from './bearer-auth.ts'
