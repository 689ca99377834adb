import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { HeaderMap } from '../../src/http/header-map.ts'
import { RequestHead, ResponseHead, receivedRequest, receivedResponse } from '../../src/http/message-head.ts'

describe('heads: what is looked at before it is sent', () => {
  it('a head as a parser made it, its copy, and one that was looked at', () => {
    // No parser makes such heads: that they pass shows that nothing was looked at.
    const request = receivedRequest('GE T', '/ ', '1.1', new HeaderMap())
    const answered = receivedResponse(200, 'O\rK', '1.1', new HeaderMap())
    for (const head of [request, request.clone()]) assert.equal(head.check(), head)
    for (const head of [answered, answered.clone()]) assert.equal(head.check(), head)
    request.method = 'P T'
    assert.throws(() => request.check(), TypeError)
    request.method = 'PUT'
    assert.equal(request.check().method, 'PUT')
    answered.reason = 'N\n'
    assert.throws(() => answered.clone().check(), TypeError)
  })

  it('a head that an application makes is looked at whatever it holds', () => {
    for (const head of [new RequestHead('', '/', '1.1', new HeaderMap()), new RequestHead('GET', '', '1.1', new HeaderMap())]) {
      assert.throws(() => head.check(), TypeError)
    }
    assert.throws(() => new ResponseHead(99, '', '1.1', new HeaderMap()).check(), TypeError)
    assert.throws(() => new RequestHead('CONNECT', '/', '1.1', new HeaderMap()).check(), TypeError)
    assert.equal(new RequestHead('CONNECT', 'a.example:443', '1.1', new HeaderMap()).check().method, 'CONNECT')
  })
})
