"""A proxy between one server and the database. It forwards statements one by one and can break between any two.

It knows just enough of PostgreSQL's protocol to tell where a message ends, which messages are statements, and whether
the database still owes an answer.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

from simulation.run import Run

EXECUTE, QUERY, SYNC, READY = b"E", b"Q", b"S", b"Z"
LONGEST_UNNOTICED_S = 5.0
"""Longest time until the database notices a broken connection; until then it keeps the locks."""
SLOWNESS_S = (0.0, 0.0, 0.02, 0.3)
"""Longest delay of one batch of statements, one of these per run; meanwhile others get their turn."""
PORTION = 2**16


class Messages:
    """Splits a byte stream into messages. ``is_first_plain``: the first message has no type byte."""

    def __init__(self, is_first_plain: bool) -> None:
        self._rest = b""
        self._head = 0 if is_first_plain else 1

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._rest += data
        while len(self._rest) >= self._head + 4:
            size = self._head + int.from_bytes(self._rest[self._head : self._head + 4])
            if len(self._rest) < size:
                return
            message, self._rest, self._head = self._rest[:size], self._rest[size:], 1
            yield message


class Broken(Exception):
    """Raised where the connection breaks."""


class Connection:
    """``port``: the client port that the database sees."""

    def __init__(self, line: "Line", server: asyncio.StreamWriter) -> None:
        self.port = 0
        self._owed = 1  # for the greeting
        self._is_whole = True
        self._line = line
        self._server = server
        self._database: asyncio.StreamWriter | None = None

    async def serve(self, asked: asyncio.StreamReader, port: int) -> None:
        answered, self._database = await asyncio.open_connection("127.0.0.1", port)
        self.port = self._database.get_extra_info("sockname")[1]
        answering = asyncio.create_task(self._answer(answered, self._server))
        try:
            await self._ask(asked, self._database)
        except Broken:
            self.break_off(self._line.run.rng.choice((0, 0, LONGEST_UNNOTICED_S)))
            await answering  # The database continues for a while.
        finally:
            self.break_off()
            answering.cancel()
            with suppress(OSError, asyncio.CancelledError):
                await answering

    async def _ask(self, asked: asyncio.StreamReader, database: asyncio.StreamWriter) -> None:
        messages = Messages(is_first_plain=True)
        while data := await asked.read(PORTION):
            for message in messages.feed(data):
                kind = message[:1]
                if kind in (EXECUTE, QUERY) and self._line.breaks_now():
                    if self._line.run.rng.random() < 0.5:
                        database.write(message)
                    raise Broken
                if kind == SYNC:
                    await self._line.hold_up()
                self._owed += kind in (SYNC, QUERY)
                database.write(message)

    async def _answer(self, answered: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        messages = Messages(is_first_plain=False)
        try:
            while data := await answered.read(PORTION):
                self._owed -= sum(message[:1] == READY for message in messages.feed(data))
                server.write(data)
        finally:
            self._is_whole = False
            server.close()

    @property
    def is_owing(self) -> bool:
        """Whether the database has yet to answer a batch of statements that a server waits for."""
        return self._is_whole and self._owed > 0

    def break_off(self, unnoticed_s: float = 0.0) -> None:
        """Break the connection: the server notices at once, the database within ``unnoticed_s`` seconds."""
        self._is_whole = False
        self._server.transport.abort()
        if self._database is not None:
            self._line.run.later(self._line.run.rng.random() * unnoticed_s, self._database.close)


class Line:
    """``port``: the port that the server connects to."""

    def __init__(self, run: Run, database_port: int) -> None:
        self.run = run
        self.port = 0
        self._database_port = database_port
        self._connections: set[Connection] = set()
        self._statements_left: int | None = None
        self._slowness_s = run.rng.choice(SLOWNESS_S)
        self.holds_up = 0
        """Number of batches that are being delayed."""
        self._listener: asyncio.Server

    async def open(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _serve(self, asked: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        connection = Connection(self, server)
        self._connections.add(connection)
        with suppress(OSError):
            await connection.serve(asked, self._database_port)
        self._connections.discard(connection)

    @property
    def owing(self) -> list[int]:
        """Client ports of the connections on which the database owes an answer."""
        return [connection.port for connection in self._connections if connection.is_owing]

    def break_after(self, statements: int) -> None:
        """After the given number of statements, break the connection that carries the next one."""
        self._statements_left = statements

    def breaks_now(self) -> bool:
        if self._statements_left is None or self.run.calm:
            return False
        if self._statements_left:
            self._statements_left -= 1
            return False
        self._statements_left = None
        self.run.happened["line broken"] += 1
        return True

    async def hold_up(self) -> None:
        if self._slowness_s and not self.run.calm:
            self.holds_up += 1
            await asyncio.sleep(self.run.rng.random() * self._slowness_s)
            self.holds_up -= 1

    def break_all(self, unnoticed_s: float = 0.0) -> None:
        for connection in self._connections:
            connection.break_off(unnoticed_s)

    def close(self) -> None:
        """The server is dead: the operating system has closed its connections."""
        self._listener.close()
        self.break_all()
