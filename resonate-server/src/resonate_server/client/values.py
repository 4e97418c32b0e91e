"""How values are written on the command line, and how they are shown."""

import base64
import json
import re
import time
from collections.abc import Callable
from typing import Any

import click
import msgspec

from resonate_server.protocol.payload import NOT_JSON

UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

_PART = re.compile(r"(\d{1,18})(ms|s|m|h|d)", re.ASCII)

LONGEST_MS = 2**62
"""So that a time this much later still fits into 64 bits."""


class Duration(click.ParamType[int]):
    """``1h30m`` as milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        parts = _PART.findall(value)
        if value != "0" and (not parts or "".join(number + unit for number, unit in parts) != value):
            self.fail(f"{value!r} is not a duration; write it like 500ms, 30s, 5m, 1h30m or 7d", param, ctx)
        length = sum(int(number) * UNITS_MS[unit] for number, unit in parts)
        if length > LONGEST_MS:
            self.fail(f"{value!r} is longer than any server can count", param, ctx)
        return length


class Json(click.ParamType[Any]):
    """JSON text whose outermost value is of the kind of ``example``: an object or an array. ``sent`` makes of it what
    is sent."""

    name = "json"

    def __init__(self, example: str, sent: Callable[[Any], Any] = lambda value: value) -> None:
        self._example = example
        self._sent = sent

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            decoded = msgspec.json.decode(value)
        except NOT_JSON as error:
            self.fail(f"not JSON: {error}", param, ctx)
        if type(decoded) is not type(msgspec.json.decode(self._example)):
            self.fail(f"expected JSON like {self._example}", param, ctx)
        return self._sent(decoded)


def _encoded(value: dict[str, Any]) -> dict[str, Any]:
    """Return a promise's param or value with its ``data`` in base64, as the SDKs expect it there."""
    return {**value, "data": base64_of(value["data"])} if "data" in value else value


DURATION = Duration()
OBJECT = Json('{"name": "value"}')
ARRAY = Json('["tea", 2]')
PAYLOAD = Json('{"data": true}', _encoded)


def json_or_text(text: str) -> Any:
    """Return a function's argument: the JSON value, or the text itself if it is not JSON (``NaN`` is not)."""
    try:
        return msgspec.json.decode(text)
    except NOT_JSON:
        return text


def base64_of(data: Any) -> str:
    """Encode text as it is, anything else as JSON."""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return base64.b64encode(text.encode()).decode()


def readable(value: dict[str, Any]) -> dict[str, Any]:
    """Return a promise's param or value with its ``data`` as it was before an SDK, or this tool, encoded it."""
    data = value.get("data")
    return value | {"data": _without_traces(decoded(data))} if isinstance(data, str) else value


def decoded(data: str) -> Any:
    """Decode base64 of JSON or of text; anything else stays as it is."""
    try:
        text = base64.b64decode(data, validate=True).decode()
    except ValueError:
        return data
    return json_or_text(text)


def _without_traces(value: Any) -> Any:
    """Reduce an exception to what people read: SDKs add a stack, or the pickled object."""
    if not isinstance(value, dict) or value.get("__type") != "error":
        return value
    return {"type": value.get("name", "error"), "message": value.get("message")}


def now_ms() -> int:
    """Return wall-clock time, in ms since the epoch."""
    return time.time_ns() // 1_000_000


def printable(text: str) -> str:
    """Escape characters that would move the cursor or change colours: ids and messages are untrusted text."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
