"""How payloads are made readable, whatever their size."""

import json
from base64 import b64encode

import pytest

from resonate_server.protocol.payload import HEAD, MAX_TEXT, TAIL, Excerpt, Payload, excerpt, function_name, readable
from resonate_server.protocol.records import EMPTY, Value


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


HOSTILE = ("<img src=x onerror=alert(1)>", "a\x1b[31mb\r\n", "\u202egnp.exe", '"\\', "a\x00b")
BINARY = b64encode(bytes(range(128, 255))).decode()
SHOWN = {
    "JSON": (encoded('{"a": [1, "x"]}'), '{"a": [1, "x"]}'),
    "escaped letters as letters": (encoded(json.dumps({"name": "Zoë 😀"})), '{"name":"Zoë 😀"}'),
    "a lone surrogate stays escaped": (encoded(r'"\ud800"'), r'"\ud800"'),
    "what is not base64 unchanged": ("hello, world", "hello, world"),
    "base64 of binary data unchanged": (BINARY, BINARY),
    **{f"hostile text as text: {text!a}": (encoded(text), text) for text in HOSTILE},
}


@pytest.mark.parametrize(("data", "text"), SHOWN.values(), ids=SHOWN)
def test_a_payload_is_shown_as_text(data: str, text: str) -> None:
    payload = readable(Excerpt(data))
    assert payload is not None
    assert (payload.text, payload.cut) == (text, False)


def test_without_data_there_is_nothing_to_show() -> None:
    assert [readable(excerpt(value)) for value in (EMPTY, Value(data=""))] == [None, None]


def test_only_a_few_kilobytes_of_a_megabyte_are_kept() -> None:
    kept = Excerpt(encoded("é" * 524_288))
    assert kept.weight == HEAD + TAIL
    assert readable(kept) == Payload("é" * 3_072, cut=True, bytes=1_048_576)


@pytest.mark.parametrize(("begin", "size"), [("x" * MAX_TEXT, 4_097), ("", 40_001)], ids=["text", "a split character"])
def test_a_long_text_is_cut_between_characters(begin: str, size: int) -> None:
    payload = readable(Excerpt(encoded(begin + "x" + "😀" * ((size - len(begin)) // 4))))
    assert payload is not None
    assert payload.cut and payload.bytes == size
    assert set(payload.text) <= {"x", "😀"}
    assert len(payload.text) <= MAX_TEXT


@pytest.mark.parametrize(
    ("param", "name"),
    [
        ('{"func":"bar","args":[]}', "bar"),
        ('{"args":[],"func":"bär \\" \\u00e9"}', 'bär " é'),
        ('{"func":5}', None),
        ('{"args":[]}', None),
        ('["func"]', None),
        ("not json", None),
        ('{"func":"bar","args":["%s"]}' % ("x" * 1_000_000), "bar"),
        ('{"args":["%s"],"func":"bar"}' % ("x" * 1_000_000), "bar"),
    ],
    ids=lambda text: str(text)[:30],
)
def test_the_function_is_read_from_the_parameters(param: str, name: str | None) -> None:
    assert function_name(Excerpt(encoded(param))) == name


def test_undecodable_parameters_name_no_function() -> None:
    assert function_name(Excerpt("%%%")) is None
