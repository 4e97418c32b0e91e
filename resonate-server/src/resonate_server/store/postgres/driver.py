"""Connections to the database: how they are set up, how one round trip works, and one transaction."""

import asyncio
import itertools
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, cached_property
from typing import Any

import msgspec
import psycopg
from psycopg import AsyncConnection, Connection, abc, adapters, waiting
from psycopg.adapt import Dumper, PyFormat, Transformer
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import error_from_result
from psycopg.generators import fetch_many, send
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.types.string import StrDumper, TextBinaryLoader, TextLoader

from resonate_server.store.postgres import sql
from resonate_server.store.postgres.plans import Asked, Found, Records, written
from resonate_server.store.postgres.writing import Writing
from resonate_server.store.rows import Row

CONNECT_S = 5  # A database that takes longer to accept a connection counts as down.
ANSWER_S = 8.0
"""So does one that is silent for longer after a query: its machine has vanished, or the process that serves the
connection is frozen."""
COPY_TIMEOUT_S = 60.0  # The same while everything is copied: there may be much to write, or to sort.
POLL_INTERVAL_S = 0.1  # at which a wait checks whether its time is up

OPTIONS = {
    "search_path": sql.SCHEMA_NAME,
    "default_transaction_isolation": r"read\ committed",  # a statement sees what was committed before its locks
    "synchronous_commit": "on",  # an answer leaves after the commit is on disk
    "idle_in_transaction_session_timeout": "10s",  # for a server that froze: others need its locks
    "client_connection_check_interval": "1s",  # for one that gave up: a query would work on, and keep its place
    "idle_session_timeout": "0",
    "statement_timeout": "0",  # a server has its own patience
    "lock_timeout": "0",
    "tcp_keepalives_idle": "2",  # likewise for one that is cut off
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
}
"""Settings of every connection, whatever the database's defaults are."""

SERVING_OPTIONS = {
    "plan_cache_mode": "force_generic_plan",  # planning takes longer than all the rest of a statement
    "enable_seqscan": "off",  # such a plan is kept while tables grow: all it needs has an index
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "jit": "off",
}
"""Settings of the connection that decides."""

# --- texts ----------------------------------------------------------------------------------------------------------

NUL, MARK = "\x00", "\ue000"
"""PostgreSQL's texts cannot have NUL, but the protocol's can. It is stored as this private-use character and "0", and
the character itself as it and "1"."""


def _marked(text: str) -> str:
    return text.replace(MARK, f"{MARK}1").replace(NUL, f"{MARK}0") if NUL in text or MARK in text else text


def _with_nuls(text: Any) -> Any:
    return text.replace(f"{MARK}0", NUL).replace(f"{MARK}1", MARK) if MARK in text else text


class _Dumper(StrDumper):
    def dump(self, text: str) -> Any:
        return super().dump(_marked(text))


class _Loader(TextLoader):
    def load(self, data: Any) -> Any:
        return _with_nuls(super().load(data))


class _BinaryLoader(TextBinaryLoader):
    def load(self, data: Any) -> Any:
        return _with_nuls(super().load(data))


class _RecordsDumper(Dumper):
    oid = adapters.types["json"].oid

    def dump(self, records: Records) -> bytes:
        data = msgspec.json.encode(records)
        if b"\\u0000" not in data and MARK.encode() not in data:
            return data
        return msgspec.json.encode(
            [{name: _marked(each) if isinstance(each, str) else each for name, each in row.items()} for row in records]
        )


def _adapt(connection: Connection[Any] | AsyncConnection[Any]) -> None:
    connection.adapters.register_dumper(str, _Dumper)
    connection.adapters.register_dumper(Records, _RecordsDumper)
    connection.adapters.register_loader("text", _Loader)
    connection.adapters.register_loader("text", _BinaryLoader)


# --- connections ----------------------------------------------------------------------------------------------------


class ServingConnection(AsyncConnection[Row]):
    """``prepared``: names of prepared statements, by statement. ``patience_s``: it is closed if the database is silent
    for this long. ``backend``: pid of the database process that serves it, even after it has ended."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.backend = self.pgconn.backend_pid
        self.prepared: dict[str, bytes] = {}
        self.patience_s = ANSWER_S

    @cached_property
    def transformer(self) -> abc.Transformer:
        """Caches how values are dumped and loaded."""
        return Transformer(self)

    def take_notifications(self) -> None:
        """Pass those that have come to the handlers. Raises :class:`psycopg.OperationalError`."""
        self.pgconn.consume_input()
        while (notification := self.pgconn.notifies()) is not None and self.pgconn.notify_handler is not None:
            self.pgconn.notify_handler(notification)

    async def wait[T](
        self,
        gen: abc.PQGen[T],
        interval: float = POLL_INTERVAL_S,
        timeout: float | None = None,  # noqa: ASYNC109  the driver's own name
    ) -> T:
        """Raises :class:`psycopg.OperationalError`. Also closes the connection if cancelled: the driver would ask the
        database to cancel the query, and wait for that."""
        patience_s = self.patience_s if timeout is None else timeout
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=patience_s)
        except (psycopg.OperationalError, asyncio.CancelledError) as error:
            if timeout is None and not _is_told(error):
                self.pgconn.finish()
            raise


class BlockingConnection(Connection[Row]):
    """For threads. ``until``: when the database must be done (monotonic seconds); without it, the connection is closed
    only if the database is silent for :data:`COPY_TIMEOUT_S`."""

    until: float | None = None

    def wait[T](self, gen: abc.PQGen[T], interval: float = POLL_INTERVAL_S, timeout: float | None = None) -> T:
        """Raises :class:`psycopg.OperationalError`."""
        left_s = COPY_TIMEOUT_S if self.until is None else max(0.0, self.until - time.monotonic())
        try:
            return super().wait(gen, interval, left_s if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if timeout is None and not _is_told(error):
                self.pgconn.finish()
            raise


def _is_told(error: BaseException) -> bool:
    """Return whether the database itself reported it, and is ready for the next statement."""
    return isinstance(error, psycopg.Error) and error.sqlstate is not None


def name_of(server: int) -> str:
    """Return the name of the server's connections in the database; see :data:`.sql.OTHERS`."""
    return f"resonate-server {server:x}"


def check_url(url: str) -> None:
    """Raise :class:`ValueError` for a malformed address; its text does not have the password."""
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ValueError("not a database URL such as postgresql://user@host:5432/database") from None


class Source:
    """A server's way to its database; ``name``: that of its connections; ``identity``: a text unique to the database,
    once it was connected to.

    It trusts no pooler, which drops the settings and tells nobody which process answers, and no primary from before a
    failover: that may come back, and accept writes, at any moment. Connecting raises :class:`psycopg.Error`.
    """

    def __init__(self, url: str, name: str = "resonate-server") -> None:
        self._url = url
        self.name = name
        self.identity = ""
        self._timelines: dict[int, str] = {}
        """The newest of each cluster that was seen: a standby that is promoted begins another one."""

    def connect(self) -> BlockingConnection:
        connection = BlockingConnection.connect(self._url, **self._parameters(OPTIONS))
        try:
            _adapt(connection)
            connection.until = time.monotonic() + CONNECT_S
            [place] = connection.execute(sql.GET_PLACE, prepare=False).fetchall()
            self._check(connection.info.backend_pid, *place)
        except BaseException:
            connection.close()
            raise
        connection.until = None
        return connection

    async def connect_async(self, options: dict[str, str] = OPTIONS) -> ServingConnection:
        connection = await ServingConnection.connect(self._url, **self._parameters(options))
        try:
            _adapt(connection)
            [place] = await (await connection.execute(sql.GET_PLACE, prepare=False)).fetchall()
            self._check(connection.info.backend_pid, *place)
        except BaseException:
            await connection.close()
            raise
        return connection

    def _parameters(self, options: dict[str, str]) -> dict[str, Any]:
        return {
            "autocommit": True,
            "prepare_threshold": 0,
            "connect_timeout": CONNECT_S,
            "client_encoding": "UTF8",
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            "application_name": self.name,
            "keepalives_idle": 2,  # to notice that the database was cut off
            "keepalives_interval": 1,
            "keepalives_count": 3,
            "tcp_user_timeout": 5_000,  # likewise, while sent data is unacknowledged
        }

    def _check(self, expected: int, backend: int, identity: str, cluster: int, timeline: str | None) -> None:
        if backend != expected:
            raise psycopg.OperationalError("a pooler answers in its place; connect to PostgreSQL itself")
        newest = self._timelines.get(cluster, "")
        if timeline is not None and timeline < newest:
            raise psycopg.OperationalError(f"this is a former primary: its timeline is {timeline}, not {newest}")
        self._timelines[cluster] = timeline or newest
        self.identity = identity


# --- a round trip ---------------------------------------------------------------------------------------------------

_numbers = itertools.count(1)
"""Of transactions, and of prepared statements: a name is never used again."""


async def ask(connection: ServingConnection, *asked: Asked) -> Found:
    """Send all statements at once and get all answers at once, in one round trip. A pipeline of the driver's cursors
    would send each statement by itself, and wake up both sides for it: 2.4 ms of CPU for a transaction instead of 1.1,
    and a tenth more in the database (medians of 3 pairs).

    Raises :class:`psycopg.Error`. The connection is closed if this is interrupted.
    """
    pgconn, prepared, transformer = connection.pgconn, connection.prepared, connection.transformer
    try:
        pgconn.enter_pipeline_mode()
        statements = {statement for statement, _ in asked}
        new = {statement: _prepare(pgconn, statement) for statement in statements - prepared.keys()}
        for statement, parameters in asked:
            # All parameters are sent as text: the statement determines their types.
            values = _in_order(statement, parameters)
            dumped = transformer.dump_sequence(values, [PyFormat.TEXT] * len(values))
            pgconn.send_query_prepared(prepared.get(statement) or new[statement], dumped, result_format=Format.BINARY)
        pgconn.pipeline_sync()
        await connection.wait(send(pgconn))
        results: list[PGresult] = []
        while not results or results[-1].status != ExecStatus.PIPELINE_SYNC:
            results += await connection.wait(fetch_many(pgconn))
        pgconn.exit_pipeline_mode()
    except BaseException:
        await connection.close()
        raise
    # Those that were prepared remain, even if the transaction fails.
    prepared |= {
        each: name for (each, name), it in zip(new.items(), results, strict=False) if it.status == ExecStatus.COMMAND_OK
    }
    for result in results:  # without BEGIN, the commit comes last, and may fail, too
        if result.status == ExecStatus.FATAL_ERROR:
            raise error_from_result(result)
    return [_rows(transformer, result) for result in results[len(new) : -1]]


def _prepare(pgconn: PGconn, statement: str) -> bytes:
    name = b"resonate_%d" % next(_numbers)
    pgconn.send_prepare(name, _positional(statement)[0])
    return name


@cache
def _positional(statement: str) -> tuple[bytes, tuple[str, ...]]:
    """Return the statement with the database's placeholders, and the names of its parameters, if any, in order."""
    names = tuple(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
    for number, name in enumerate(names, start=1):
        statement = statement.replace(f"%({name})s", f"${number}")
    numbers = itertools.count(1)
    return re.sub("%s", lambda _: f"${next(numbers)}", statement).encode(), names


def _in_order(statement: str, parameters: Sequence[Any] | dict[str, Any]) -> Sequence[Any]:
    return [parameters[name] for name in _positional(statement)[1]] if isinstance(parameters, dict) else parameters


def _rows(transformer: abc.Transformer, result: PGresult) -> list[Row]:
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple) if result.nfields else []


class Transaction:
    """Begins with its first round. ``number``: what :data:`.sql.GET_ENDING` returns for ``server`` once this one is
    committed; ``backend``: pid of the process that carries it out."""

    def __init__(self, connection: ServingConnection, server: int) -> None:
        self._connection = connection
        self._server = server
        self._has_begun = False
        self.number = next(_numbers)
        self.backend = connection.backend

    @property
    def is_lost(self) -> bool:
        """Whether its connection has ended, so that nobody can tell whether it was committed."""
        return self._connection.closed

    async def ask(self, *asked: Asked) -> Found:
        """Do one round trip. Raises :class:`psycopg.Error`."""
        if self._has_begun:
            return await ask(self._connection, *asked)
        self._has_begun = True
        _, *found = await ask(self._connection, (sql.BEGIN, ()), *asked)
        return found

    async def commit(self, writing: Writing, *asked: Asked) -> Found:
        """Write, ask what else is asked, and commit, in one round trip. On return, the writes are durable."""
        writes = written(writing, self._server, self.number)
        found = await self.ask(*writes, *asked, (sql.COMMIT, ()))
        return found[len(writes) : -1]

    async def leave(self) -> None:
        """Roll back, unless it was committed."""
        status = self._connection.info.transaction_status
        if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            with suppress(psycopg.Error):
                await ask(self._connection, (sql.ROLLBACK, ()))
