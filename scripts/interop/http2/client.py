"""
httpx, and for what it does not show h2 by itself. Called with what to do, the URL and the file of the authority; exit 0 when all was
answered well.
"""
import asyncio
import socket
import ssl
import sys
import urllib.parse

import h2.config
import h2.connection
import h2.events
import httpx

do, base, ca = sys.argv[1:4]
context = ssl.create_default_context(cafile=ca)
SECONDS = 30


def ask(method, path, body=None):
    with httpx.Client(http1=False, http2=True, verify=context, timeout=SECONDS) as client:
        answer = client.request(method, base + path, content=body)
        assert (answer.status_code, answer.http_version) == (200, "HTTP/2"), answer
        return answer.content


async def together(count):
    async with httpx.AsyncClient(http1=False, http2=True, verify=context, timeout=SECONDS) as client:
        answers = await asyncio.gather(*(client.get(base + "/together") for _ in range(count)))
        assert all(answer.status_code == 200 for answer in answers), answers


def events(path):
    """All that comes for one request, with h2 and a socket."""
    url = urllib.parse.urlsplit(base)
    with socket.create_connection((url.hostname, url.port), timeout=SECONDS) as raw:
        stream = raw
        if url.scheme == "https":
            context.set_alpn_protocols(["h2"])
            stream = context.wrap_socket(raw, server_hostname=url.hostname)
            assert stream.selected_alpn_protocol() == "h2"
        connection = h2.connection.H2Connection(config=h2.config.H2Configuration(header_encoding="utf-8"))
        connection.initiate_connection()
        fields = [(":method", "GET"), (":scheme", url.scheme), (":authority", url.netloc), (":path", path), ("te", "trailers")]
        connection.send_headers(1, fields, end_stream=True)
        stream.sendall(connection.data_to_send())
        while True:
            came = stream.recv(65536)
            assert came, "the connection ended"
            for event in connection.receive_data(came):
                yield event
                if isinstance(event, h2.events.DataReceived):
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if isinstance(event, h2.events.StreamEnded):
                    stream.close()
                    return
            stream.sendall(connection.data_to_send())


if do == "get":
    ask("GET", "/")
elif do == "post":
    body = b"cirque " * 20000
    assert ask("POST", "/echo", body) == body
elif do == "together":
    asyncio.run(together(50))
elif do == "download":
    assert len(ask("GET", "/download?bytes=5000000")) == 5000000
elif do == "hints":
    interim = [event for event in events("/hints") if isinstance(event, h2.events.InformationalResponseReceived)]
    assert [dict(event.headers)[":status"] for event in interim] == ["103"], interim
elif do == "trailers":
    trailers = [event for event in events("/trailers") if isinstance(event, h2.events.TrailersReceived)]
    assert [dict(event.headers) for event in trailers] == [{"x-sum": "right"}], trailers
