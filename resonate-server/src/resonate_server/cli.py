"""The command line: ``resonate-server serve`` (SQLite file) and ``resonate-server dev`` (in memory)."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
from aiohttp import web
from pydantic import ValidationError

from resonate_server import __version__
from resonate_server.config import Settings
from resonate_server.engine import Engine
from resonate_server.engine.clock import monotonic_wall_clock
from resonate_server.http import build_app
from resonate_server.kernel.model import Rules
from resonate_server.store import Store
from resonate_server.store.memory import MemoryStore
from resonate_server.store.sqlite import SQLiteStore, StoreUnusable

logger = logging.getLogger("resonate_server")

KEEP_ALIVE_S = 75.0
"""Idle connections are kept longer than the SDKs keep theirs (15 s), so that the server never closes one in use."""


def _listening_options[**P, T](command: Callable[P, T]) -> Callable[P, T]:
    command = click.option("--level", type=click.Choice(["debug", "info", "warning", "error"]), help="Log level.")(
        command
    )
    command = click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on (default 8001).")(command)
    return click.option("--host", "bind", help="Address to listen on (default 0.0.0.0; dev: 127.0.0.1).")(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="resonate-server")
def main() -> None:
    """A Resonate server: durable promises and the delivery of their tasks.

    Every setting is also an environment variable: RESONATE_SERVER__PORT, RESONATE_SERVER__BIND,
    RESONATE_STORAGE__SQLITE__PATH, RESONATE_TASKS__RETRY_TIMEOUT (ms), ... Flags win.
    """


@main.command()
@_listening_options
@click.option("--db", type=click.Path(path_type=Path), help="SQLite file (default ./resonate.db); created if missing.")
def serve(bind: str | None, port: int | None, level: str | None, db: Path | None) -> None:
    """Serve from a SQLite file: state survives restarts and kill -9."""
    settings = _load_settings(bind, port, level, db)
    sqlite = settings.storage.sqlite
    try:
        store = SQLiteStore(sqlite.path, sqlite.synchronous)
    except StoreUnusable as error:
        _fail(str(error))
    _run(store, settings, f"state in {sqlite.path}")


@main.command()
@_listening_options
def dev(bind: str | None, port: int | None, level: str | None) -> None:
    """Serve from memory: nothing survives this process."""
    _run(MemoryStore(), _load_settings(bind or "127.0.0.1", port, level, None), "state in memory only")


def _load_settings(bind: str | None, port: int | None, level: str | None, db: Path | None) -> Settings:
    flags: dict[str, Any] = {}
    if level is not None:
        flags["level"] = level
    server = {key: value for key, value in (("bind", bind), ("port", port)) if value is not None}
    if server:
        flags["server"] = server
    if db is not None:
        flags["storage"] = {"sqlite": {"path": db}}
    try:
        return Settings(**flags)
    except ValidationError as error:
        first = error.errors()[0]
        name = "RESONATE_" + "__".join(str(part) for part in first["loc"]).upper()
        _fail(f"setting {name}: {first['msg']} (got {first['input']!r})")


def _run(store: Store, settings: Settings, where: str) -> None:
    _configure_logging(settings.level)
    tasks = settings.tasks
    rules = Rules(retry_timeout_ms=tasks.retry_timeout)
    engine = Engine(store, rules, monotonic_wall_clock(), grace_seconds=tasks.worker_grace / 1_000)
    app = build_app(engine, settings)
    try:
        asyncio.run(_serve(app, settings, where), loop_factory=_loop_factory())
    except OSError as error:
        _fail(f"cannot listen on {settings.server.bind}:{settings.server.port}: {error.strerror or error}")


async def _serve(app: web.Application, settings: Settings, where: str) -> None:
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,  # a stream's handler learns at once that its worker is gone
        auto_decompress=False,  # no client compresses; undecoded bytes are refused like any other non-JSON
        keepalive_timeout=KEEP_ALIVE_S,
        shutdown_timeout=settings.server.shutdown_timeout / 1_000,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.server.bind, settings.server.port)
        await site.start()
        host, port = runner.addresses[0][:2]
        logger.info("listening on http://%s:%s, %s", host, port, where)
        await _until_told_to_stop()
        logger.info("stopping: streams are ended, what was accepted is stored")
    finally:
        await runner.cleanup()


async def _until_told_to_stop() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    await stop.wait()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (not on Windows); the standard loop does the same, more slowly."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _configure_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stdout,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
    )
    # It logs every malformed request with a traceback; those are answered, and our own failures are logged by the app.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


def _fail(message: str) -> NoReturn:
    click.echo(f"resonate-server: {message}", err=True)
    raise SystemExit(2)
