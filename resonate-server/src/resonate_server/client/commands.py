"""What all commands share: choosing the server, printing an answer, and ending the command on a refusal."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import click
from msgspec import Struct

from resonate_server.client.server_connection import TIMEOUT_S, ServerConnection
from resonate_server.client.values import printable

DEFAULT_SERVER = "http://localhost:8001"

ANSWER_S = 5.0
"""A server that a command follows, and that takes longer to answer, counts as away."""


DEEPEST_INDENTED = 100
"""Levels of a JSON value; one that has more is not indented."""


class Chosen(Struct):
    """The server to talk to, and the token to use."""

    server: str = DEFAULT_SERVER
    token: str | None = None


def _remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    name = parameter.name or ""
    by_hand = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    if value is not None and (by_hand or context.parent is None):
        setattr(context.ensure_object(Chosen), name, value)


_SERVER = click.Option(
    ["-S", "--server"],
    metavar="URL",
    envvar="RESONATE_URL",
    expose_value=False,
    callback=_remember,
    help=f"The server to talk to [env: RESONATE_URL; default: {DEFAULT_SERVER}].",
)
_TOKEN = click.Option(
    ["-T", "--token"],
    metavar="JWT",
    envvar="RESONATE_TOKEN",
    expose_value=False,
    callback=_remember,
    help="Your token, if the server requires one; others can read arguments [env: RESONATE_TOKEN].",
)


class ServerGroup(click.Group):
    """A group that takes ``--server`` and ``--token``, as does each of its commands; the last ones on the line win."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [_SERVER, _TOKEN]

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        if not isinstance(cmd, ServerGroup):
            cmd.params += [_SERVER, _TOKEN]
        super().add_command(cmd, name)


def request(kind: str, data: dict[str, Any], as_shown: Callable[[Any], Any] | None = None) -> Any:
    """Send one request to the chosen server, print the answer as ``as_shown`` formats it, and return it."""
    answer = connect().call(kind, data)
    click.echo(as_json(as_shown(answer) if as_shown else answer))
    return answer


def connect(timeout_s: float = TIMEOUT_S, end: float = float("inf")) -> ServerConnection:
    """Connect to the server that the running command talks to. Raises :class:`CallFailed` if its URL or the token is
    invalid."""
    chosen = click.get_current_context().ensure_object(Chosen)
    return ServerConnection(chosen.server, chosen.token, timeout_s, end)


def given(**members: Any) -> dict[str, Any]:
    """Return the ``members`` that are not ``None``: options not given are left out of the request."""
    return {name: value for name, value in members.items() if value is not None}


def as_json(value: Any) -> str:
    """Return indented JSON without control characters, in characters that standard output can encode."""
    indent = 2 if _is_flat(value) else None  # 20 KB of nothing but brackets would be indented to 160 MB
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text if _output_is_utf() and text.replace("\n", "").isprintable() else json.dumps(value, indent=indent)


def _is_flat(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST_INDENTED):
        members = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [member for each in members for member in each]
    return not level


def shown(text: str) -> str:
    """Return ``text`` without control characters, in characters that standard output can encode."""
    safe = printable(text)
    return safe if _output_is_utf() else safe.encode("ascii", "backslashreplace").decode()


def _output_is_utf() -> bool:
    output = getattr(sys.stdout, "rich_proxied_file", sys.stdout)  # rich draws through one without encoding
    return (getattr(output, "encoding", None) or "").lower().startswith("utf")


def fail(message: str, status: int = 1) -> NoReturn:
    click.echo(f"Error: {printable(message)}", err=True)
    raise SystemExit(status)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """End the command cleanly at the first SIGINT or SIGTERM; a second one cannot interrupt that."""

    def end(number: int, _frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
