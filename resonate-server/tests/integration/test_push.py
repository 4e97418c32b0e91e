"""Delivery to HTTP addresses (protocol section 5.3, end)."""

import json
import queue
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from harness.basics import wait_until
from harness.certificate import make_certificate
from harness.server import Client, ServerProcess
from integration.servers import Start
from msgspec import Struct


class Received(Struct):
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Receiver:
    """A worker that gets its messages by HTTP.

    ``secured``: serves HTTPS with this context's certificate.
    """

    def __init__(self, secured: ssl.SSLContext | None = None) -> None:
        self._received: queue.Queue[Received] = queue.Queue()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                receiver._received.put(Received(path=self.path, headers=dict(self.headers), body=body))

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        if secured is not None:
            self._server.socket = secured.wrap_socket(self._server.socket, server_side=True)
            self.url = self.url.replace("http", "https")
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def next(self, seconds: float = 5) -> Received:
        return self._received.get(timeout=seconds)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def server(start_for_all: Start) -> ServerProcess:
    """A server that dispatches again after 0.6 s and proves the origin of its messages."""
    return start_for_all(
        RESONATE_SERVER__URL="http://public.example:8001",
        RESONATE_TASKS__RETRY_TIMEOUT="600",
        RESONATE_TRANSPORTS__HTTP_PUSH__AUTH__MODE="bearer",
        RESONATE_TRANSPORTS__HTTP_PUSH__AUTH__TOKEN="secret",
    )


@pytest.mark.parametrize("trusts", [False, True])
def test_by_https_only_to_whom_the_system_s_certificates_know(
    start: Start, tmp_path: Path, id: str, trusts: bool
) -> None:
    certificate = tmp_path / "certificate.pem"
    receiver = Receiver(make_certificate(certificate))
    environment: dict[str, Any] = {"SSL_CERT_FILE": str(certificate)} if trusts else {}
    server = start(RESONATE_TASKS__RETRY_TIMEOUT="600", **environment)
    server.client().create(id, target=receiver.url)
    if trusts:
        assert receiver.next(60).body["kind"] == "execute"
    else:
        wait_until(lambda: "certificate verify failed" in server.output(), "it does not trust the receiver")
    receiver.close()


def test_an_execute_is_posted_with_where_to_call_back_and_who_calls(
    client: Client, receiver: Receiver, id: str
) -> None:
    client.create(id, target=f"{receiver.url}/work?a=b")
    received = receiver.next()
    client.call("task.halt", id=id)

    assert received.path == "/work?a=b"
    assert received.body == {
        "kind": "execute",
        "head": {"serverUrl": "http://public.example:8001"},
        "data": {"task": {"id": id, "version": 0}},
    }
    assert received.headers["Content-Type"] == "application/json"
    assert received.headers["Authorization"] == "Bearer secret"
