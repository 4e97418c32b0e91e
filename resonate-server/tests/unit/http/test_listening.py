"""Accepting connections."""

import asyncio
import socket

import pytest
import uvloop

from resonate_server.http.bodies import Unfinished
from resonate_server.http.client_time import ClientTime
from resonate_server.http.connections import Connection, Connections
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


class Waiting(Connection):
    """A connection that owes no answer."""

    def finish(self) -> None:
        self._transport.close()


@pytest.mark.parametrize("turns", range(12))
def test_a_server_that_stops_while_a_connection_is_made_does_not_wait_for_it(turns: int) -> None:
    """At any turn of the event loop: uvloop told no protocol of the end of what was cancelled at its beginning."""

    async def stop() -> None:
        connections = Connections(8, ClientTime(1), 1, Unfinished())
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            acceptor = Acceptor([listener], connections, lambda: Waiting(connections))
            with socket.create_connection(listener.getsockname()):
                for _ in range(turns):
                    await asyncio.sleep(0)
                acceptor.close()
                await asyncio.sleep(0)  # as aiohttp does
                async with asyncio.timeout(5):
                    await connections.drain(60)

    asyncio.run(stop(), loop_factory=uvloop.new_event_loop)
