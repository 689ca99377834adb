/**
 * The status page of the admin listener: status-page.html as it lies here, and the policy under which a browser runs nothing that is
 * not in that file and asks nobody but us. What the page shows comes as JSON (sample.ts).
 */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'

export interface StatusPage {
  readonly html: string
  readonly headers: Readonly<Record<string, string>>
}

const FILE = path.join(import.meta.dirname, 'status-page.html')

let loaded: StatusPage | null = null

/** Read once, when somebody wants to see it. @throws when the file is gone */
export function statusPage(): StatusPage { return loaded ??= pageOf(fs.readFileSync(FILE, 'utf8')) }

/** @param html with one style and one script, both in it */
export function pageOf(html: string): StatusPage {
  const policy = [
    "default-src 'none'", `script-src ${hashOf(html, 'script')}`, `style-src ${hashOf(html, 'style')}`, "connect-src 'self'",
    // The icon that stands in the page itself.
    'img-src data:', "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
  ]
  return {
    html,
    headers: {
      'content-type': 'text/html; charset=utf-8', 'content-security-policy': policy.join('; '),
      'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer', 'cross-origin-resource-policy': 'same-origin',
    },
  }
}

function hashOf(html: string, element: 'script' | 'style'): string {
  const text = textOf(html, element)
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`
}

/** What stands between the tags of the only element of that name. @throws when there is none */
export function textOf(html: string, element: 'script' | 'style'): string {
  const found = new RegExp(`<${element}>(.*?)</${element}>`, 's').exec(html)
  if (found === null) throw new Error(`the status page has no <${element}>`)
  return found[1]!
}
