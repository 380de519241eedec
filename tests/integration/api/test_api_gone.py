"""Clients that send many requests over one connection and go away before they are answered."""

import queue
import socket
import threading

import uvicorn

from api.protocol import HttpProtocol

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ABORT = b"\1\0\0\0\0\0\0\0"  # of SO_LINGER: close without waiting, as a client that is killed


def test_the_request_that_is_being_answered_learns_it_and_those_behind_it_are_dropped():
    told = queue.Queue()

    async def app(scope, receive, send):
        told.put("begun")
        await receive()  # there is no body
        told.put((await receive())["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})
        told.put("ended")

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=HttpProtocol, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    for _ in range(2):
        with socket.create_connection(listening.getsockname()) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            client.sendall(REQUEST * 5)
            assert told.get(timeout=30) == "begun"
        assert told.get(timeout=30) == "http.disconnect"
        assert told.get(timeout=30) == "ended"
    server.should_exit = True
    thread.join(timeout=30)
    assert told.empty()
