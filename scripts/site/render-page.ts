/** One page of Markdown, or one file, as the HTML of its content. Headings are called as links of the pages call them. */
import { Marked } from 'marked'
import { headingAnchors } from '../page-links.ts'

export interface RenderedPage {
  /** As text. */
  readonly title: string
  /** HTML. */
  readonly body: string
  /** Headings of the second level, for the way around. */
  readonly sections: readonly { readonly title: string; readonly anchor: string }[]
}

/**
 * @param hrefOf what a link of the page becomes; '' for plain text, null when it leads nowhere
 * @throws Error with every link that leads nowhere, and for HTML in the page: pages are Markdown, and are read as such elsewhere
 */
export function renderPage(file: string, text: string, hrefOf: (link: string) => string | null): RenderedPage {
  const anchors = headingAnchors(text)
  const sections: { title: string; anchor: string }[] = []
  // Kept for later: marked adds its own words to what is thrown within.
  const faults: string[] = []
  let title = '', heading = 0
  const marked = new Marked({
    renderer: {
      heading({ depth, tokens }) {
        const anchor = anchors[heading++] ?? ''
        const content = this.parser.parseInline(tokens), plain = plainText(content)
        if (depth === 1 && title === '') title = plain
        if (depth === 2) sections.push({ title: plain, anchor })
        const link = depth === 1 ? '' : ` <a class="anchor" href="#${anchor}" aria-label="Link to this section">#</a>`
        return `<h${depth} id="${anchor}">${content}${link}</h${depth}>\n`
      },
      link({ href, tokens }) {
        const leadsTo = hrefOf(href)
        if (leadsTo === null) faults.push(`${file} links to ${href}, which is not there; correct the link`)
        const content = this.parser.parseInline(tokens)
        return leadsTo === null || leadsTo === '' ? content : `<a href="${escapeHtml(leadsTo)}">${content}</a>`
      },
      code({ text: code, lang = '' }) {
        const language = lang.split(' ')[0] ?? ''
        return `<pre class="${escapeHtml(language)}"><code>${escapeHtml(code)}\n</code></pre>\n`
      },
      // As wide as its content asks for, within a box that scrolls.
      table({ header, rows }) {
        const cells = (tag: string, row: typeof header): string => {
          return `<tr>${row.map(({ tokens }) => `<${tag}>${this.parser.parseInline(tokens)}</${tag}>`).join('')}</tr>`
        }
        const body = rows.map(row => cells('td', row)).join('\n')
        return `<div class="table"><table>\n<thead>${cells('th', header)}</thead>\n<tbody>\n${body}\n</tbody>\n</table></div>\n`
      },
      html({ text: html }) {
        // Marks of the tables that are made from code.
        if (!/^<!--.*-->\s*$/s.test(html)) faults.push(`${file} has HTML: ${html.trim()}; write Markdown, with backticks where it is meant`)
        return ''
      },
    },
  })
  const body = marked.parse(text, { async: false })
  if (title === '') faults.push(`${file} has no heading of the first level; give it one`)
  if (faults.length > 0) throw new Error(faults.join('\n'))
  return { title, body, sections }
}

/** A file that is no page, to be read. */
export function renderFile(file: string, text: string): RenderedPage {
  return { title: file, body: `<h1><code>${escapeHtml(file)}</code></h1>\n<pre><code>${escapeHtml(text)}</code></pre>\n`, sections: [] }
}

export function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}

/** What is shown of a heading. */
function plainText(html: string): string {
  return html.replaceAll(/<[^>]*>/g, '').replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&quot;', '"').replaceAll('&#39;', "'")
    .replaceAll('&amp;', '&')
}
