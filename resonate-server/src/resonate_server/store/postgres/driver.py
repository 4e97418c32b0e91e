"""Connections to the database: how they are set up, and how one round trip works."""

import asyncio
import itertools
import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any, override

import msgspec
import psycopg
from psycopg import AsyncConnection, Connection, abc, adapters, waiting
from psycopg.adapt import AdaptersMap, Dumper, PyFormat, Transformer
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import error_from_result
from psycopg.generators import fetch_many, send
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.types.string import StrDumper, TextBinaryLoader, TextLoader
from psycopg_pool import ConnectionPool

from resonate_server.store.postgres.plans import Ask, Found, Round
from resonate_server.store.postgres.sql import NEW_ENDING, SCHEMA_NAME
from resonate_server.store.postgres.writing import Records
from resonate_server.store.rows import Row

CONNECT_S = 5
"""A database that takes longer to accept a connection counts as down."""

ANSWER_S = 8.0
"""So does one that is silent for longer after a query: its machine has vanished, or the process that serves the
connection is frozen."""

COPY_TIMEOUT_S = 60.0
"""The same while everything is copied: there may be much to write, or to sort."""

CHECK_S = 2.0
"""The same for a connection that was idle for a while: there are others."""

POLL_INTERVAL_S = 0.1
"""Interval at which a wait checks whether its time is up."""

MAX_PREPARED = 200
"""Prepared statements per connection: the statement that writes has many forms."""

NUL, MARK = "\x00", "\ue000"
"""PostgreSQL's texts cannot have NUL, but the protocol's can. It is stored as this private-use character and "0", and
the character itself as it and "1"."""

OPTIONS = {
    "search_path": SCHEMA_NAME,
    "default_transaction_isolation": r"read\ committed",  # a statement sees what was committed before its locks
    "synchronous_commit": "on",  # an answer leaves after the commit is on disk
    "idle_in_transaction_session_timeout": "10s",  # for a server that froze: others need its locks
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


class _Dumper(StrDumper):
    def dump(self, text: str) -> Any:
        return super().dump(_marked(text) if NUL in text or MARK in text else text)


class _Loader(TextLoader):
    def load(self, data: Any) -> Any:
        return _with_nuls(super().load(data))


class _RecordsDumper(Dumper):
    oid = adapters.types["json"].oid

    def dump(self, records: Records) -> bytes:
        data = msgspec.json.encode(records)
        if b"\\u0000" in data or MARK.encode() in data:
            data = msgspec.json.encode([{name: _marked(each) for name, each in row.items()} for row in records])
        return data


def _marked(field: Any) -> Any:
    return field.replace(MARK, f"{MARK}1").replace(NUL, f"{MARK}0") if isinstance(field, str) else field


class ServingConnection(AsyncConnection[Row]):
    """``key`` is unique among all connections ever made, so that its last commit can be looked up after its end.
    ``backend``: pid of the database process that serves it.

    ``prepared``: names of prepared statements, by statement. ``transformer`` caches how values are dumped and loaded.
    ``patience_s``: the connection is closed if the database is silent for this long.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.key = secrets.randbits(62)
        self.backend = self.pgconn.backend_pid
        self.prepared: dict[str, bytes] = {}
        self.patience_s = ANSWER_S

    @cached_property
    def transformer(self) -> abc.Transformer:
        return Transformer(self)

    @contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """Let the database be silent for ``seconds`` meanwhile."""
        self.patience_s = seconds
        try:
            yield
        finally:
            self.patience_s = ANSWER_S

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


class BlockingConnection(Connection[Row], ABC):
    """For threads. Closed if the database is silent for :meth:`patience_s`."""

    @abstractmethod
    def patience_s(self) -> float:
        """Return for how many seconds from now the database may be silent."""

    def wait[T](self, gen: abc.PQGen[T], interval: float = POLL_INTERVAL_S, timeout: float | None = None) -> T:
        """Raises :class:`psycopg.OperationalError`."""
        try:
            return super().wait(gen, interval, self.patience_s() if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if timeout is None and not _is_told(error):
                self.pgconn.finish()
            raise


class CopyingConnection(BlockingConnection):
    """For copying everything, with no limit on the total time."""

    @override
    def patience_s(self) -> float:
        return COPY_TIMEOUT_S


class QueryConnection(BlockingConnection):
    """For queries. ``until``: when the database must be done (monotonic seconds)."""

    until = 0.0

    @override
    def patience_s(self) -> float:
        return max(0.0, self.until - time.monotonic())


def _is_told(error: BaseException) -> bool:
    """Return whether the database itself reported it, and is ready for the next statement."""
    return isinstance(error, psycopg.Error) and error.sqlstate is not None


class _BinaryLoader(TextBinaryLoader):
    def load(self, data: Any) -> Any:
        return _with_nuls(super().load(data))


def _with_nuls(text: Any) -> Any:
    if MARK in text:
        return text.replace(f"{MARK}0", NUL).replace(f"{MARK}1", MARK)
    return text


def _adapt(adapters: AdaptersMap) -> None:
    adapters.register_dumper(str, _Dumper)
    adapters.register_dumper(Records, _RecordsDumper)
    adapters.register_loader("text", _Loader)
    adapters.register_loader("text", _BinaryLoader)


def _set_up(connection: Connection[Any] | AsyncConnection[Any]) -> None:
    connection.prepare_threshold = 0
    _adapt(connection.adapters)


def name_of(server: int) -> str:
    """Return the name of the server's connections in the database."""
    return f"resonate-server {server:x}"


def _parameters(name: str, options: dict[str, str] = OPTIONS) -> dict[str, Any]:
    return {
        "autocommit": True,
        "connect_timeout": CONNECT_S,
        "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
        "application_name": name,
        "keepalives_idle": 2,  # to notice that the database was cut off
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": 5_000,  # likewise, while sent data is unacknowledged
    }


def check_url(url: str) -> None:
    """Raise :class:`ValueError` for a malformed address; its text does not have the password."""
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ValueError("not a database URL such as postgresql://user@host:5432/database") from None


def connect(url: str) -> CopyingConnection:
    """Raises :class:`psycopg.Error`."""
    connection = CopyingConnection.connect(url, **_parameters("resonate-server"))
    _set_up(connection)
    return connection


async def connect_async(
    url: str, name: str = "resonate-server", options: dict[str, str] = OPTIONS
) -> ServingConnection:
    """Raises :class:`psycopg.Error`."""
    connection = await ServingConnection.connect(url, **_parameters(name, options))
    _set_up(connection)
    return connection


async def connect_serving(url: str, name: str) -> ServingConnection:
    """Open a connection whose last commit can be looked up. Raises :class:`psycopg.Error`."""
    connection = await connect_async(url, name, OPTIONS | SERVING_OPTIONS)
    try:
        await connection.execute(NEW_ENDING.encode(), (connection.key,))
    except BaseException:
        await connection.close()
        raise
    return connection


def thread_pool(url: str, size: int, name: str) -> ConnectionPool[QueryConnection]:
    """Return a pool that is not open yet. Whoever gets a connection sets its ``until``."""
    return ConnectionPool(
        url,
        connection_class=QueryConnection,
        kwargs=_parameters(name),
        min_size=0,
        max_size=size,
        open=False,
        configure=_set_up,
        check=_check,
        reconnect_timeout=1,
    )


def _check(connection: QueryConnection) -> None:
    connection.until = time.monotonic() + CHECK_S
    ConnectionPool.check_connection(connection)


# --- a round trip ---------------------------------------------------------------------------------------------------


async def ask(connection: ServingConnection, asked: Round) -> Found:
    """Send all statements at once and get all answers at once, in one round trip. A pipeline of the driver's cursors
    would send each statement by itself, and wake up both sides for it: 2.4 ms of CPU for a transaction instead of 1.1,
    and a tenth more in the database (medians of 3 pairs).

    Raises :class:`psycopg.Error`. The connection is closed if this is interrupted.
    """
    pgconn, prepared, transformer = connection.pgconn, connection.prepared, connection.transformer
    if len(prepared) > MAX_PREPARED and pgconn.transaction_status == TransactionStatus.IDLE:
        await connection.execute("DEALLOCATE ALL")
        prepared.clear()
    try:
        pgconn.enter_pipeline_mode()
        statements = {each.statement for each in asked.values()}
        new = {statement: _prepare(pgconn, statement) for statement in statements - prepared.keys()}
        for each in asked.values():
            parameters = transformer.dump_sequence(*_in_order(each))
            name = prepared.get(each.statement) or new[each.statement]
            pgconn.send_query_prepared(name, parameters, result_format=Format.BINARY)
        pgconn.pipeline_sync()
        await connection.wait(send(pgconn))
        [*results, _] = [
            result for _ in range(len(new) + len(asked) + 1) for result in await connection.wait(fetch_many(pgconn))
        ]
        pgconn.exit_pipeline_mode()
    except BaseException:
        await connection.close()
        raise
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            raise error_from_result(result)
    prepared |= new
    return {name: _rows(transformer, result) for name, result in zip(asked, results[len(new) :], strict=True)}


_numbers = itertools.count()


def _prepare(pgconn: PGconn, statement: str) -> bytes:
    """Return the statement's name. A failure leaves a name that is never used again."""
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


def _in_order(asked: Ask) -> tuple[Sequence[Any], list[PyFormat]]:
    """Return the parameters in order, all in text format: the statement determines their types."""
    found = asked.parameters
    ordered = [found[name] for name in _positional(asked.statement)[1]] if isinstance(found, dict) else found
    return ordered, [PyFormat.TEXT] * len(ordered)


def _rows(transformer: abc.Transformer, result: PGresult) -> list[Row]:
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple) if result.nfields else []
