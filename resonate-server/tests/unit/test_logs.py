"""Text from strangers is harmless in the log: one line cannot pass for two, and it cannot control a terminal."""

import json
import logging

import pytest

from resonate_server.logs import JsonFormatter, TextFormatter

FORMATTERS = [TextFormatter(), JsonFormatter()]

STEERING = (
    "\n", "\r", "\x0c", "\x1b[2K\x1b[1A", "\x07", "\x00", "\x7f", "\x85", "\x9b31m",  # control characters
    "\u2028", "\u2029",  # line ends
    "\u202e", "\u2066", "\u200e",  # text direction
    "\ud800",  # half a character
)  # fmt: skip


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("any.package", logging.INFO, __file__, 1, message, arguments, info)


@pytest.mark.parametrize("text", STEERING, ids=ascii)
@pytest.mark.parametrize("formatter", FORMATTERS, ids=["text", "json"])
def test_control_characters_are_escaped(formatter: logging.Formatter, text: str) -> None:
    line = formatter.format(record("worker connected: %s", f"a{text}12:00:00 INFO forged"))
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    line.encode()
    if isinstance(formatter, JsonFormatter):
        assert text in json.loads(line)["message"]


def test_text_logs_use_python_escapes() -> None:
    assert TextFormatter().format(record("id %s", "a\n\x1b\u202e")).endswith(r"INFO id a\n\x1b\u202e")


def test_ordinary_text_stays_readable() -> None:
    message = "grüße \U0001f96d 数 «ключ» \\n"
    assert TextFormatter().format(record("%s", message)).endswith(message)
    assert message.replace("\\", "\\\\") in JsonFormatter().format(record("%s", message))


def raised(message: str) -> BaseException:
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


def test_an_error_s_text_cannot_pass_for_an_entry_or_control_the_terminal() -> None:
    text = TextFormatter().format(record("it failed", error=raised("a\n12:00:00 INFO forged\x1b[2K")))
    first, *traceback = text.split("\n")
    assert first.endswith("INFO it failed")
    assert traceback[0] == "  Traceback (most recent call last):"
    assert traceback[-2:] == ["  ValueError: a", r"  12:00:00 INFO forged\x1b[2K"]


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
