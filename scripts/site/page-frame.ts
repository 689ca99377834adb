/** What stands around the content of a page: its head, and the way to all other pages. No script, and nothing from elsewhere. */
import { escapeHtml, type RenderedPage } from './render-page.ts'

/** Pages that stand together in the way around. */
export interface Chapter {
  readonly title: string
  readonly pages: readonly { readonly title: string; readonly file: string }[]
}

export interface Framed {
  readonly file: string
  readonly page: RenderedPage
  readonly chapters: readonly Chapter[]
  hrefTo(file: string): string
  /** Address of the style sheet, from this page. */
  readonly styles: string
}

export function framePage(framed: Framed): string {
  const { page, styles } = framed
  const title = page.title === 'Cirque' ? page.title : `${page.title} - Cirque`
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}</title>
<link rel="stylesheet" href="${styles}">
</head>
<body>
<a class="skip" href="#content">To the content</a>
<header>
<a class="name" href="${framed.hrefTo('README.md')}">Cirque</a>
<details class="menu"><summary>Pages</summary>
<nav aria-label="All pages">${navigation(framed)}</nav>
</details>
</header>
<div class="columns">
<nav class="side" aria-label="Pages">${navigation(framed)}</nav>
<main id="content">
${page.body}</main>
</div>
</body>
</html>
`
}

/** With the sections of the page that is shown below its own entry. */
function navigation({ file, page, chapters, hrefTo }: Framed): string {
  return chapters.map(({ title, pages }) => {
    const items = pages.map(one => {
      const here = one.file === file
      const sections = !here || page.sections.length === 0 ? '' : `\n<ul>${page.sections.map(section => {
        return `<li><a href="#${section.anchor}">${escapeHtml(section.title)}</a></li>`
      }).join('')}</ul>`
      return `<li><a href="${hrefTo(one.file)}"${here ? ' aria-current="page"' : ''}>${escapeHtml(one.title)}</a>${sections}</li>`
    })
    return `\n<p>${escapeHtml(title)}</p>\n<ul>\n${items.join('\n')}\n</ul>`
  }).join('')
}
