"""Accepting connections."""

import asyncio
import socket

import pytest

from resonate_server.http.bodies import Unfinished
from resonate_server.http.client_time import ClientTime
from resonate_server.http.connections import Connections
from resonate_server.http.listening import Acceptor


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"welcome\n")
        transport.close()


async def test_a_connection_that_cannot_be_served_does_not_keep_others_out(caplog: pytest.LogCaptureFixture) -> None:
    protocols: list[asyncio.Protocol] = [Greeter()]
    is_first = iter([True, False])

    def connect() -> asyncio.Protocol:
        return protocols.pop(9 if next(is_first) else 0)  # IndexError

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        acceptor = Acceptor([listener], Connections(8, ClientTime(1), 1, Unfinished()), connect)
        answers = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            answers.append(await reader.read())
            writer.close()
        acceptor.close()
    assert answers == [b"", b"welcome\n"]
    assert "could not serve a connection" in caplog.text
