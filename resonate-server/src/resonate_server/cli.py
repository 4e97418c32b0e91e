"""The ``resonate-server`` command: serves, and restores, recovers or copies the state of a stopped server."""

import asyncio
import ctypes
import errno
import logging
import signal
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click
import uvloop
from aiohttp import web

from resonate_server import __version__
from resonate_server.build import Server, build
from resonate_server.config import FILE, Settings, WrongSetting, load
from resonate_server.flags import Serving, flags, given
from resonate_server.http import MAX_LINE_BYTES, site
from resonate_server.http.gate import is_loopback
from resonate_server.http.shared_port import CannotShare, share
from resonate_server.logs import configure_logging
from resonate_server.moving import move, place, summary
from resonate_server.official import Given
from resonate_server.store.errors import StoreFailed, StoreLost
from resonate_server.store.sqlite import IN_MEMORY, StoreUnusable, sessions
from resonate_server.store.sqlite.backup import BackupUnusable, restore_backup
from resonate_server.store.sqlite.lock import PathTaken
from resonate_server.store.whole import CannotCopy
from resonate_server.trace import TraceUnusable

logger = logging.getLogger("resonate_server")

M_MMAP_THRESHOLD = -3
LARGE_BYTES = 256 * 1_024

NEVER_S = 365 * 24 * 3_600.0
"""aiohttp keeps a timer for each idle connection, which cannot be switched off. Ours close themselves."""

READ_BYTES = 32 * 1_024
"""Unread bytes of a body (twice as many at most) at which reading pauses until a handler takes them."""


class CannotListen(Exception):
    """The address is taken or not ours."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="resonate-server")
def main() -> None:
    """A Resonate server: durable promises and the delivery of their tasks.

    Every flag is also an environment variable and a key in ./resonate.toml: --server-port is RESONATE_SERVER__PORT, and
    port in the section [server]. Flags override variables, and variables override the file.
    """


FLAGS = [*flags()]


@main.command(cls=Serving, params=FLAGS, short_help="Serve from a SQLite file, or from PostgreSQL.")
def serve(config: Path | None, assigned: tuple[str, ...], **values: Any) -> None:
    """Serve from a SQLite file, or from PostgreSQL: state survives restarts and kill -9."""
    settings = _begin(given(values, assigned), config)
    if settings.storage.place == str(IN_MEMORY):
        _fail(
            "a server that keeps its state in memory loses it with its process; for that there is `resonate-server dev`"
        )
    _run(settings, f"state in {settings.storage.place}")


@main.command(cls=Serving, params=FLAGS, short_help="Serve from memory: nothing survives the process.")
def dev(config: Path | None, assigned: tuple[str, ...], **values: Any) -> None:
    """Serve from memory: nothing survives this process, unless --storage-sqlite-path names a file."""
    from_flags = given(values, assigned)
    if not any(name.endswith("sqlite.path") for name in from_flags):  # by either of its names
        from_flags["storage.sqlite.path"] = str(IN_MEMORY)
    settings = _begin(from_flags, config)
    where = settings.storage.place
    _run(settings, "state in memory only" if where == str(IN_MEMORY) else f"state in {where}")


@main.command(short_help="Replace the database of a stopped server with a backup.")
@click.argument("backup", type=click.Path(path_type=Path))
@click.option("--db", type=click.Path(path_type=Path), help="SQLite file (default ./resonate.db).")
@click.option("--replace", is_flag=True, help="Overwrite the file if it exists.")
def restore(backup: Path, db: Path | None, replace: bool) -> None:
    """Replace the database of a stopped server with BACKUP, made by "resonate backup".

    An interrupted restore leaves the old database or the new one.
    """
    path = _path_of(db)
    try:
        restore_backup(backup, path, replace)
    except (BackupUnusable, PathTaken) as error:
        _fail(str(error))
    except FileExistsError:
        _fail(f"{path} exists; --replace overwrites it")
    except OSError as error:
        _fail(f"cannot restore {path}: {error.strerror or error}")
    click.echo(f"{path} is what {backup} was")


@main.command(short_help="Recover a database whose write-ahead log was lost.")
@click.option("--db", type=click.Path(path_type=Path), help="SQLite file (default ./resonate.db).")
def recover(db: Path | None) -> None:
    """Recover a database whose write-ahead log was lost; the changes acknowledged last are gone."""
    path = _path_of(db)
    if not path.exists():
        _fail(f"{path} does not exist")
    try:
        sessions.recover(path)
    except (PathTaken, StoreFailed, sessions.LogLost, OSError) as error:
        _fail(f"cannot recover {path}: {error}")
    click.echo(f"{path} is usable again, as of its last checkpoint")


@main.command(short_help="Copy the state of a stopped server to another place.")
@click.option(
    "--from", "source", required=True, metavar="PLACE", help="The state of a stopped server; it stays unchanged."
)
@click.option("--to", "target", required=True, metavar="PLACE", help="Where to copy it; must be empty.")
def copy(source: str, target: str) -> None:
    """Copy the whole state of a stopped server to another place: all of it, or nothing.

    A place is sqlite:PATH or postgres:URL; "sqlite:" and "postgres:" alone are those in the settings. Chains continue
    where the next server starts. Do not start one on the old place again: it would repeat what was done since.
    """
    storage = _load_settings({}).storage
    try:
        old, new = place(source, storage), place(target, storage)
        counts = move(old, new)
    except (CannotCopy, ValueError) as error:
        _fail(f"nothing was copied: {error}")
    to, origin = (("" if each.is_postgres else "sqlite:") + each.place for each in (new, old))
    click.echo(f"{to} has what {origin} has: {summary(counts)}")


def _load_settings(from_flags: Given, file: Path | None = None) -> Settings:
    try:
        return load(from_flags, file=file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        _fail(f"cannot read the settings in {file or FILE}: {error}")
    except WrongSetting as error:
        _fail(". ".join([str(error), *getattr(error, "__notes__", ())]))


def _begin(from_flags: Given, file: Path | None) -> Settings:
    """Configure logging early, because opening a database of an older format may take a while."""
    settings = _load_settings(from_flags, file)
    _return_large_blocks()
    try:
        configure_logging(settings.level, settings.log_format, settings.log_file)
    except OSError as error:
        _fail(f"cannot write the log: {error}")
    return settings


def _return_large_blocks() -> None:
    """Make blocks of memory from :data:`LARGE_BYTES` on go back to the system when they are freed, with glibc.

    glibc maps a large block by itself, and unmaps it when it is freed. But each such free raises the threshold for
    this, up to 32 MiB: after the first payload of 4 MiB the next ones come from heaps, one per thread, which keep the
    gaps between blocks.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


def _path_of(db: Path | None) -> Path:
    return _load_settings({"storage.sqlite.path": db} if db else {}).storage.sqlite.path


def _run(settings: Settings, where: str) -> None:
    try:
        serving = _serve(build(settings), where)
        asyncio.run(serving, loop_factory=uvloop.new_event_loop)
    except (WrongSetting, StoreUnusable, TraceUnusable, CannotListen, CannotShare, StoreLost) as error:
        _fail(str(error))


async def _serve(server: Server, where: str) -> None:
    settings = server.parts.settings
    runners = [_runner(server.app, settings)]
    try:
        host, port = await _listen(runners[0], settings.server.bind, settings.server.port, settings.server.shared_port)
        logger.info("listening on http://%s:%s, %s", host, port, where)
        _warn_if_exposed(settings)
        if settings.observability.metrics_port:
            runners.append(_runner(server.metrics_app, settings))
            await _offer_metrics(runners[1], settings)
        sharing = share(port, server.parts.store) if settings.server.shared_port else asyncio.Future[None]()
        if lost := await _until_stopped(server.parts.store.lost, asyncio.ensure_future(sharing)):
            raise StoreLost(lost)
        logger.info("stopping: ending streams, answering accepted requests")
    finally:
        await asyncio.gather(*(runner.cleanup() for runner in runners))


def _warn_if_exposed(settings: Settings) -> None:
    address = settings.server.published_on or settings.server.bind
    if not is_loopback(address) and not settings.auth.is_protection:
        logger.warning(
            "listening on %s without tokens: whoever can reach this server, from any machine, may read and change "
            "everything; RESONATE_AUTH__TOKEN demands a token, RESONATE_SERVER__BIND=127.0.0.1 keeps others out",
            address,
        )


async def _offer_metrics(runner: web.AppRunner, settings: Settings) -> None:
    """Serve without metrics if a second server on the machine finds the port taken."""
    try:
        await _listen(runner, settings.server.bind, settings.observability.metrics_port)
    except CannotListen as error:
        logger.warning("metrics are off: %s; --observability-metrics-port takes another one", error)


def _runner(app: web.Application, settings: Settings) -> web.AppRunner:
    return web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,  # a stream's handler learns at once that its worker is gone
        auto_decompress=False,  # no client compresses; undecoded bytes are refused like any other non-JSON
        keepalive_timeout=NEVER_S,
        read_bufsize=READ_BYTES,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
        shutdown_timeout=settings.server.shutdown_timeout / 1_000,
    )


async def _listen(runner: web.AppRunner, bind: str, port: int, shared: bool = False) -> tuple[str, int]:
    await runner.setup()
    try:
        await site(runner, bind, port, shared).start()
    except (OSError, UnicodeError) as error:  # no host name has an empty part, or one of 64 characters
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) == errno.EADDRINUSE:  # asyncio's own words repeat the address
            reason = "another program has this port"
        raise CannotListen(f"cannot listen on {bind}:{port}: {reason}") from error
    host, actual_port = runner.addresses[0][:2]
    return f"[{host}]" if ":" in host else host, actual_port


async def _until_stopped(lost: asyncio.Future[str], sharing: asyncio.Future[None]) -> str:
    """Return why the server cannot go on; empty after a signal to stop. Raises what ``sharing`` does."""
    loop = asyncio.get_running_loop()
    ends = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, ends.set)
    for each in (lost, sharing):
        each.add_done_callback(lambda _: ends.set())
    await ends.wait()
    if sharing.done():
        sharing.result()
    return lost.result() if lost.done() else ""


def _fail(message: str) -> NoReturn:
    click.echo(f"resonate-server: {message}", err=True)
    raise SystemExit(2)
