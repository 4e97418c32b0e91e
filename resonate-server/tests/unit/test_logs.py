"""Text from strangers is harmless in the log: one line cannot pass for two, and it cannot control a terminal."""

import json
import logging

import pytest

from resonate_server.logs import JsonFormatter, TextFormatter

FORMATTERS = [TextFormatter(), JsonFormatter()]

STEERING = {
    "line feed": "\n",
    "carriage return": "\r",
    "form feed": "\x0c",
    "escape": "\x1b[2K\x1b[1A",
    "bell": "\x07",
    "NUL": "\x00",
    "delete": "\x7f",
    "next line": "\x85",
    "control sequence introducer": "\x9b31m",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "right-to-left override": "\u202e",
    "isolate": "\u2066",
    "left-to-right mark": "\u200e",
    "half a character": "\ud800",
}
of_each_kind = pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in STEERING.items()])


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("any.package", logging.INFO, __file__, 1, message, arguments, info)


@of_each_kind
@pytest.mark.parametrize("formatter", FORMATTERS, ids=["text", "json"])
def test_control_characters_are_escaped(formatter: logging.Formatter, text: str) -> None:
    line = formatter.format(record("worker connected: %s", f"a{text}12:00:00 INFO forged"))
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    line.encode()


def test_text_logs_use_python_escapes() -> None:
    assert TextFormatter().format(record("id %s", "a\n\x1b\u202e")).endswith(r"INFO id a\n\x1b\u202e")


@of_each_kind
def test_as_json_the_text_can_be_restored(text: str) -> None:
    assert json.loads(JsonFormatter().format(record("%s", text)))["message"] == text


def test_ordinary_text_stays_readable() -> None:
    message = "grüße \U0001f96d 数 «ключ» \\n"
    assert TextFormatter().format(record("%s", message)).endswith(message)
    assert message.replace("\\", "\\\\") in JsonFormatter().format(record("%s", message))


def raised(message: str) -> BaseException:
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


def test_a_traceback_keeps_its_line_ends_below_the_entry() -> None:
    first, *traceback = TextFormatter().format(record("it failed", error=raised("why"))).split("\n")
    assert first.endswith("INFO it failed")
    assert traceback[0] == "  Traceback (most recent call last):"
    assert traceback[-1] == "  ValueError: why"


def test_an_error_s_text_cannot_pass_for_an_entry_or_control_the_terminal() -> None:
    text = TextFormatter().format(record("it failed", error=raised("a\n12:00:00 INFO forged\x1b[2K")))
    _, *traceback = text.split("\n")
    assert all(line.startswith("  ") and line.isprintable() for line in traceback)


def test_as_json_a_traceback_is_one_member() -> None:
    line = JsonFormatter().format(record("it failed", error=raised("a\nb\x9b")))
    assert line.isprintable()
    assert json.loads(line)["error"].endswith("ValueError: a\nb\x9b")


@pytest.mark.parametrize("name", ["resonate_server", "aiohttp.server", "asyncio"])
def test_every_line_begins_with_its_date_and_time_in_utc(name: str) -> None:
    said = record("said")
    said.name, said.created = name, 1795634401.123
    assert TextFormatter().format(said) == "2026-11-25T19:20:01.123+00:00 INFO said"
    assert json.loads(JsonFormatter().format(said))["time"] == "2026-11-25T19:20:01.123+00:00"
