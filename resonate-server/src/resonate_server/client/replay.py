"""``resonate replay``: send the requests of a trace again, and show the first answer that differs."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NoReturn

import click
import msgspec
from msgspec import Raw, Struct, field

from resonate_server.client.commands import as_json, connect, fail
from resonate_server.client.server_connection import CallFailed, ServerConnection
from resonate_server.protocol.requests import KINDS, Millis

TIMES = {"timeoutAt", "createdAt", "settledAt", "nextRunAt", "lastRunAt"}
"""Members that differ if the server's clock cannot be set."""

TIME_STANDS_STILL = ("debug.start", "debug.stop")
"""Not sent again: the trace sets the time."""

NOT_COMPARABLE = 2

NO_ANSWER, UNAUTHORIZED = 0, 401


class _TracedHead(Struct):
    status: int
    corr_id: str = field(name="corrId", default="replay")


class _TracedAnswer(Struct):
    head: _TracedHead
    data: Any = None


class Line(Struct):
    """One line of a trace; times in ms. ``undone``: when something was due that had not been done yet."""

    kind: str
    now: Millis
    req: Raw
    res: _TracedAnswer
    undone: Millis | None = None


@click.command(short_help="Send the requests of a trace to a server and compare the answers.")
@click.argument("file", type=click.File("rb"))
def replay(file: BinaryIO) -> None:
    """Send the requests of FILE, which "resonate-server dev --trace FILE" wrote, and compare the answers.

    Replay stops at the first answer that differs, and shows the difference. The server must be as empty as the traced
    one was.

    With debug = true the server's clock is set to the time of each line; it must have no other clients meanwhile.
    Otherwise times are not compared, and answers that depend on the time may differ. Of refusals only the status is
    compared, not the wording.

    \b
    Exit status:
      0  all answers are the same
      1  an answer differs
      2  a line cannot be read, or the server does not answer
    """
    connection = connect()
    count = 0
    try:
        with _time_by_hand(connection) as is_set:
            for number, line in _lines(file):
                _compare(connection, number, line, is_set)
                count += 1
    except CallFailed as error:
        fail(f"after {count} answers that are the same: {error}", NOT_COMPARABLE)
    click.echo(f"{count} answers are the same")


@contextmanager
def _time_by_hand(connection: ServerConnection) -> Iterator[bool]:
    """Yield whether the server lets its clock be set. What it does by itself, it then does at the times of the
    lines."""
    try:
        connection.call("debug.start", {})
    except CallFailed as error:
        if error.status in (NO_ANSWER, UNAUTHORIZED):
            raise
        click.echo(
            "Note: the clock of this server cannot be set (that needs debug = true), so times are not compared",
            err=True,
        )
        yield False
        return
    try:
        yield True
    finally:
        connection.call("debug.stop", {})


def _lines(file: BinaryIO) -> Iterator[tuple[int, Line]]:
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            line = msgspec.json.decode(text, type=Line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if not text.endswith(b"\n"):
                _end(number, "it is cut off, as if the server had been killed; the answers before it match")
            _end(number, f"not a line of a trace: {error}")
        if line.kind not in KINDS:
            _end(number, f"unknown kind {line.kind!r}")
        if line.kind not in TIME_STANDS_STILL:
            yield number, line


def _compare(connection: ServerConnection, number: int, line: Line, is_set: bool) -> None:
    head: dict[str, Any] = {"corrId": line.res.head.corr_id}
    if is_set:
        head["resonate:debug_time"] = line.now
        connection.call("debug.tick", {"time": line.now if line.undone is None else max(line.undone - 1, 0)})
    elif line.kind.startswith("debug."):
        _end(number, f"{line.kind} needs a server with debug = true")
    response = connection.ask(line.kind, line.req, **head)
    was = _comparable(line.res.head.status, line.res.data, is_set)
    now = _comparable(response.head.status, response.data, is_set)
    if was["status"] != now["status"] or (was != now and was["status"] < 400):
        click.echo(f"line {number}, {line.kind}: the answer differs")
        click.echo(_difference(was, now))
        raise SystemExit(1)


def _comparable(status: int, data: Any, is_set: bool) -> dict[str, Any]:
    """``is_set``: the trace sets the time, so the times must match as well."""
    return {"status": status, "data": data if is_set else _without_times(data)}


def _without_times(data: Any) -> Any:
    match data:
        case dict():
            return {name: _without_times(member) for name, member in data.items() if name not in TIMES}
        case list():
            return [_without_times(item) for item in data]
    return data


def _difference(was: Any, now: Any) -> str:
    """Return the difference line by line: ``-`` as it was, ``+`` as it is."""
    before, after = (as_json(each).split("\n") for each in (was, now))
    return "\n".join(difflib.unified_diff(before, after, "recorded", "answered", lineterm=""))


def _end(number: int, message: str) -> NoReturn:
    fail(f"line {number}: {message}", NOT_COMPARABLE)
