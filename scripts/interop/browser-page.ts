/** What a browser does at the edge, as a page whose script writes what came of it into the document. */
export const BROWSER_PAGE = `<!doctype html><title>interop</title><pre id="out">running</pre><script>
(async () => {
  const lines = []
  const get = await fetch('/')
  lines.push('get ' + get.status)
  const body = 'cirque '.repeat(20000)
  const post = await fetch('/echo', { method: 'POST', body })
  lines.push('post ' + post.status + ' ' + (await post.text() === body))
  for (let count = 0; count < 5; count++) await (await fetch('/?' + count)).text()
  document.getElementById('out').textContent = lines.concat('done').join(', ')
})()
</script>
`
