"""Python's ssl and http.client. Called with what to do, the URL's port and the file of the authority; exit 0 when all was answered well."""
import http.client
import ssl
import sys

do, port, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(cafile=ca)


def ask(connection, method="GET", path="/", body=None, headers={}):
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, answer.status
    assert body is None or text == body
    return text


def connect():
    return http.client.HTTPSConnection("localhost", port, context=context, timeout=10)


if do == "get":
    ask(connect())
elif do == "post":
    ask(connect(), "POST", "/echo", b"cirque " * 20000)
elif do == "keep-alive":
    kept = connect()
    for _ in range(5):
        ask(kept)
elif do == "resumption":
    # http.client cannot be told of a session.
    import socket
    session = None
    for _ in range(2):
        with socket.create_connection(("localhost", port), timeout=10) as raw:
            with context.wrap_socket(raw, server_hostname="localhost", session=session) as secure:
                secure.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                text = b""
                while piece := secure.recv(65536):
                    text += piece
                assert text.startswith(b"HTTP/1.1 200 "), text
                session = secure.session
