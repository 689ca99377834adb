/**
 * A page that uses what HTTP/2 has for a browser, and says what came of it: on itself, and to /report. Its load event waits for that,
 * since one of its pictures is answered only then; so a browser that is told to take a picture of the page takes it when all is done.
 */
import { DOWNLOAD_BYTES, FORM_BYTES, MANY, PARTS, POST_BODY } from './judge.ts'

export const BROWSER_PAGE = `<!doctype html><meta charset="utf-8"><title>HTTP/2</title>
<style>body { font: 15px sans-serif; margin: 24px } td { padding: 2px 16px 2px 0 } .no { color: #b00; font-weight: bold }
#parts { width: 640px; line-height: 0; margin: 12px 0 } #parts img { margin: 1px }</style>
<h1>HTTP/2 in a browser</h1>
<table id="rows"></table>
<p><progress id="progress" max="${FORM_BYTES}" value="0"></progress> <span id="progress-text"></span></p>
<div id="parts"></div>
<p id="end">running</p>
<img src="/until-report" width="1" height="1" alt="">
<script>
const element = id => document.getElementById(id), report = {}
const say = (name, isGood, text) => {
  report[name] = (isGood ? 'ok: ' : 'no: ') + text
  const row = element('rows').insertRow()
  row.insertCell().textContent = name
  row.insertCell().textContent = report[name]
  if (!isGood) row.className = 'no'
}
const attempt = async (name, run) => {
  try { say(name, ...await run()) } catch (error) { say(name, false, String(error)) }
}
const protocolOf = name => performance.getEntriesByType('resource')
  .filter(entry => entry.name.includes(name)).map(entry => entry.nextHopProtocol)
const loaded = image => new Promise((resolve, reject) => {
  image.onload = resolve
  image.onerror = () => reject(new Error(image.src + ' did not load'))
})
performance.setResourceTimingBufferSize(1000)
const run = async () => {
  await attempt('get', async () => {
    const answer = await fetch('/?get')
    await answer.text()
    return [answer.status === 200 && protocolOf('?get')[0] === 'h2', answer.status + ', ' + protocolOf('?get')[0]]
  })
  await attempt('post', async () => {
    const body = 'cirque '.repeat(${POST_BODY.length} / 7), answer = await fetch('/echo', { method: 'POST', body })
    return [await answer.text() === body, 'status ' + answer.status + ', ' + body.length + ' bytes came back']
  })
  await attempt('together', async () => {
    const answers = await Promise.all(Array.from({ length: ${MANY} }, (_, at) => fetch('/together?' + at)))
    const good = answers.filter(answer => answer.status === 200).length
    await Promise.all(answers.map(answer => answer.text()))
    return [good === ${MANY}, good + ' requests at once']
  })
  await attempt('download', async () => {
    const bytes = (await (await fetch('/download?bytes=${DOWNLOAD_BYTES}')).arrayBuffer()).byteLength
    return [bytes === ${DOWNLOAD_BYTES}, bytes + ' bytes']
  })
  await attempt('hints', async () => {
    const [{ firstInterimResponseStart: at, nextHopProtocol }] = performance.getEntriesByType('navigation')
    return [at > 0, at > 0 ? '103 came before the page, ' + nextHopProtocol : 'no 103']
  })
  await attempt('parts', async () => {
    const images = Array.from({ length: ${PARTS} }, (_, at) => Object.assign(new Image(8, 8), { src: '/part?' + at }))
    element('parts').append(...images)
    await Promise.all(images.map(loaded))
    const protocols = protocolOf('/part?')
    const isGood = protocols.length === ${PARTS} && protocols.every(name => name === 'h2')
    return [isGood, images.length + ' pictures, ' + [...new Set(protocols)].join(' and ')]
  })
  await attempt('webSocket', () => new Promise((resolve, reject) => {
    const socket = new WebSocket('wss://' + location.host + '/ws'), sent = 'cirque '.repeat(2000)
    let came = 0
    socket.onopen = () => { for (let count = 0; count < 10; count++) socket.send(sent) }
    socket.onmessage = ({ data }) => {
      if (data !== sent) reject(new Error('another message came back'))
      else if (++came === 10) socket.close(1000)
    }
    socket.onerror = () => reject(new Error('the WebSocket failed'))
    socket.onclose = ({ code, wasClean }) => {
      resolve([came === 10 && code === 1000 && wasClean, came + ' messages came back, closed with ' + code])
    }
  }))
  await attempt('upload', () => new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    let calls = 0, last = 0
    request.upload.onprogress = ({ loaded, total }) => {
      calls++
      last = loaded
      element('progress').value = loaded
      element('progress-text').textContent = loaded + ' of ' + total + ' bytes, told ' + calls + ' times'
    }
    request.onload = () => resolve([
      request.responseText === '${FORM_BYTES}' && last === ${FORM_BYTES} && calls > 1,
      request.responseText + ' bytes arrived, progress was told ' + calls + ' times',
    ])
    request.onerror = () => reject(new Error('the upload failed'))
    request.open('POST', '/slow-upload')
    request.send(new Blob([new Uint8Array(${FORM_BYTES})]))
  }))
  element('end').textContent = 'done'
  await fetch('/report', { method: 'POST', body: JSON.stringify(report) })
}
run()
</script>
`
