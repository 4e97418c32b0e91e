"""How payloads are made readable, whatever their size."""

import json
from base64 import b64encode

import pytest

from resonate_server.protocol.payload import HEAD, MAX_TEXT, TAIL, Excerpt, Payload, excerpt, function_name, readable
from resonate_server.protocol.records import EMPTY, Value


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


def shown(data: str) -> Payload:
    payload = readable(Excerpt(data))
    assert payload is not None
    return payload


@pytest.mark.parametrize("value", [EMPTY, Value(data="")])
def test_without_data_there_is_nothing_to_show(value: Value) -> None:
    assert readable(excerpt(value)) is None


def test_base64_of_json_is_shown_as_json() -> None:
    assert shown(encoded('{"a": [1, "x"]}')) == Payload('{"a": [1, "x"]}', cut=False, bytes=15)


def test_escaped_letters_are_shown_as_letters() -> None:
    assert shown(encoded(json.dumps({"name": "Zoë 😀"}))).text == '{"name":"Zoë 😀"}'


def test_data_that_is_not_base64_is_shown_unchanged() -> None:
    assert shown("hello, world") == Payload("hello, world", cut=False, bytes=12)


def test_base64_of_binary_data_is_shown_unchanged() -> None:
    data = b64encode(bytes(range(128, 255))).decode()
    assert shown(data) == Payload(data, cut=False, bytes=len(data))


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", "a\x1b[31mb\r\n", "\u202egnp.exe", '"\\', "a\x00b"])
def test_hostile_text_is_text(text: str) -> None:
    assert shown(encoded(text)).text == text


def test_a_lone_surrogate_in_json_is_left_escaped() -> None:
    assert shown(encoded(r'"\ud800"')).text == r'"\ud800"'


def test_a_long_text_is_cut() -> None:
    payload = shown(encoded("x" * (MAX_TEXT + 1)))
    assert (len(payload.text), payload.cut, payload.bytes) == (MAX_TEXT, True, MAX_TEXT + 1)


def test_only_a_few_kilobytes_of_a_megabyte_are_kept() -> None:
    kept = Excerpt(encoded("é" * 524_288))
    assert kept.weight == HEAD + TAIL
    assert readable(kept) == Payload("é" * 3_072, cut=True, bytes=1_048_576)


def test_a_character_cut_in_the_middle_is_left_out() -> None:
    payload = shown(encoded("x" + "😀" * 10_000))
    assert set(payload.text) == {"x", "😀"}


@pytest.mark.parametrize(
    ("param", "name"),
    [
        ('{"func":"bar","args":[]}', "bar"),
        ('{"args":[],"func":"bär \\" \\u00e9"}', 'bär " é'),
        ('{"func":5}', None),
        ('{"args":[]}', None),
        ('["func"]', None),
        ("not json", None),
    ],
)
def test_the_function_is_read_from_the_parameters(param: str, name: str | None) -> None:
    assert function_name(Excerpt(encoded(param))) == name


@pytest.mark.parametrize("order", ['{{"func":"bar","args":["{0}"]}}', '{{"args":["{0}"],"func":"bar"}}'])
def test_the_function_is_found_beside_a_megabyte_of_arguments(order: str) -> None:
    assert function_name(Excerpt(encoded(order.format("x" * 1_000_000)))) == "bar"


def test_undecodable_parameters_name_no_function() -> None:
    assert function_name(Excerpt("%%%")) is None
