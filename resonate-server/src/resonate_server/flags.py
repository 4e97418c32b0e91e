"""Settings as command-line flags: each by its own name and, where there are any, by official ones."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from resonate_server import official
from resonate_server.config import BETWEEN_LEVELS, SETTINGS, flat
from resonate_server.official import Given

MEANINGS = {
    "level": "The lowest level that is logged.",
    "log_format": "Text for people, or one JSON object per line.",
    "log_file": "A file to log to, instead of standard output.",
    "trace": "Record all requests and answers in a file, for `resonate replay`.",
    "debug": "Allow debug.* requests, which set the clock and delete everything.",
    "server.bind": "Address to listen on.",
    "server.port": "Port to listen on.",
    "server.host": "Name by which others reach this server.",
    "server.url": "URL under which others reach it, if not http://HOST:PORT.",
    "server.hosts": "Further host names to accept.",
    "server.published_on": "Address on which a container's port is published.",
    "server.shared_port": "Share the port with other servers on this database.",
    "server.max_body_bytes": "Largest request, in bytes.",
    "server.client_timeout": "ms a client has to send a request, or to read its answer.",
    "server.shutdown_timeout": "ms that requests have to finish at shutdown.",
    "server.cors.allow_origins": "Origins whose pages may use this server; *: any.",
    "storage.type": "Where to keep the state: sqlite or postgres.",
    "storage.sqlite.path": "SQLite file; created if missing.",
    "storage.sqlite.synchronous": "NORMAL may lose the last commits when the power fails.",
    "storage.postgres.url": "PostgreSQL database; PGPASSWORD keeps its password off the command line.",
    "storage.postgres.pool_size": "Connections: one for decisions, the others for reads.",
    "tasks.retry_timeout": "ms until a task that nobody claims is offered again.",
    "tasks.worker_grace": "ms until a disconnected worker loses its tasks.",
    "schedules.catch_up": "Missed runs of a schedule to catch up on.",
    "retention.settled_after": "ms until settled results are deleted; 0: never.",
    "transports.http_poll.enabled": "Streams for workers, at /poll.",
    "transports.http_poll.max_connections": "Maximum number of streams.",
    "transports.http_push.enabled": "Deliver to workers that have an HTTP address.",
    "transports.http_push.concurrency": "Concurrent deliveries.",
    "transports.http_push.connect_timeout": "ms to connect.",
    "transports.http_push.request_timeout": "ms for a delivery.",
    "transports.http_push.auth.mode": "Whether deliveries carry a token.",
    "transports.http_push.auth.token": "That token; prefer the variable, as others can read arguments.",
    "transports.http_push.auth.header": "The header that carries it.",
    "auth.publickey": "PEM file of a public key; the server then requires tokens.",
    "auth.iss": "Required issuer of tokens.",
    "auth.aud": "Required audience of tokens.",
    "observability.metrics_port": "Port of the metrics; 0: none.",
    "ui.enabled": "The live page at /ui/.",
    "ui.actions_url": "URL that lists further actions for the page.",
}
"""Help text of each setting that has a flag; docs/protocol.md, section 6, says more."""


class Serving(click.Command):
    """A command that explains why it rejects a flag of the official server."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if reason := official.refusal(error.option_name):
                raise click.UsageError(f"{error.option_name}: {reason}", ctx) from None
            raise


def flags() -> Iterator[click.Option]:
    """Yield the options for all settings."""
    file = click.Path(path_type=Path)
    yield click.Option(["--config"], type=file, help="File with settings [default: ./resonate.toml].")
    yield click.Option(
        ["assigned", "--set"],
        multiple=True,
        metavar="NAME=VALUE",
        help="Any setting, in TOML. Others can read arguments: secrets belong in variables, or in the file.",
    )
    for name, spellings in _spellings().items():
        kind, default = SETTINGS.get(name, (str, None))
        yield click.Option(
            [name.replace(".", BETWEEN_LEVELS), *spellings],
            type=_type(kind),
            is_flag=name == "debug",
            default=None,
            multiple=name == "server.cors.allow_origins",
            help=MEANINGS.get(name, "") + ("" if default in ("", None) else f" [default: {default}]"),
            hidden=name not in SETTINGS,
        )


def _spellings() -> dict[str, list[str]]:
    """Return the flags of each setting but the shared secret: others can read a process's arguments."""
    names = [name for name in (*SETTINGS, *official.WITHOUT_EFFECT) if name != "auth.token"]
    spellings = {name: ["--" + name.replace(".", "-").replace("_", "-")] for name in names}
    for flag, name in official.FLAGS.items():
        spellings.setdefault(name, []).append(flag)
    return spellings


def _type(kind: Any) -> click.ParamType[Any]:
    match msgspec.inspect.type_info(kind):
        case msgspec.inspect.LiteralType(values=values):
            return click.Choice([str(value) for value in values])
        case msgspec.inspect.IntType(ge=least, le=most):
            return click.IntRange(least, most)
        case msgspec.inspect.BoolType():
            return click.BOOL
    return click.STRING


def given(values: dict[str, Any], assigned: tuple[str, ...]) -> Given:
    """Return the settings given by flags (``None`` or an empty tuple: not given) and by ``--set``."""
    return _assigned(assigned) | {
        name.replace(BETWEEN_LEVELS, "."): list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value not in (None, ())
    }


def _assigned(texts: tuple[str, ...]) -> Given:
    """Decode values as TOML; any other text stays as it is."""
    given: Given = {}
    for text in texts:
        name, is_given, value = text.partition("=")
        if not is_given:
            raise click.UsageError(f"--set {name} has no value: write it like --set NAME=VALUE")
        try:
            given |= flat({name.strip(): tomllib.loads(f"value = {value}")["value"]})
        except tomllib.TOMLDecodeError:
            given[name.strip()] = value
    return given
