"""Values contain no code; and the places where the SDK would look for code in them."""

import ast
import base64
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import resonate
from resonate.codec import Codec
from resonate.error import ResonateError
from resonate.types import Value

from worker.values import PlainValues

SDK = Path(resonate.__file__).parent
REPOSITORY = Path(__file__).parents[2]
CODEC = Codec(PlainValues())

# Everything that reads a value, by the function that does so. Whatever comes from a server passes `Codec.decode`, and
# so the encryptor, before `_deserialize_error` sees it: `decode_settled` gets what `decode_promise` has decoded.
READS_VALUES = {
    ("codec.py", "Codec.decode", "decrypt"),
    ("codec.py", "Codec.decode_error", "_deserialize_error"),
    ("codec.py", "Codec.decode_error", "decode"),
    ("codec.py", "Codec.decode_promise", "decode"),
    ("codec.py", "_deserialize_error", "loads"),
    ("codec.py", "decode_settled", "_deserialize_error"),
    ("context.py", "Context._await_remote", "decode_settled"),
    ("context.py", "Context.run.bg", "decode_settled"),
    ("core.py", "Core.on_message", "decode_promise"),
    ("effects.py", "ResonateEffects._absorb", "decode_promise"),
    ("effects.py", "ResonateEffects.create_promise", "decode_promise"),
    ("effects.py", "ResonateEffects.settle_promise", "decode_promise"),
    ("handle.py", "ResonateHandle._decode_result", "decode"),
    ("handle.py", "ResonateHandle._decode_result", "decode_error"),
    ("promises.py", "Promises._settle", "decode_promise"),
    ("promises.py", "Promises.create", "decode_promise"),
    ("promises.py", "Promises.get", "decode_promise"),
    ("promises.py", "Promises.search", "decode_promise"),
    ("resonate.py", "Resonate.run._", "decode_promise"),
}
WRITES_PICKLES = {("codec.py", "_encode_error", "dumps")}
IMPORTS_PICKLES = re.compile(
    r"^\s*(?:from|import\b.*?)[ \t](?:pickle|cPickle|_pickle|dill|cloudpickle|marshal|shelve)\b", re.MULTILINE
)
READERS = {"_deserialize_error", "decode_error", "decode_promise", "decode_settled", "decrypt", "load", "loads"}


@pytest.mark.parametrize(
    "data",
    [
        b'{"message":"no","__py_pickle":"x"}',
        b'{"__py_\\u0070ickle":"x","message":"no"}',
        b'{"\\u005f\\u005fpy_pickle":"x","message":"no"}',
        b'{"__py_pickle":1,"message":"no","__py_pickle":"x"}',
        b'\t{ "__py_pickle" : {"__py_pickle": []}, "message" : "no" } ',
    ],
)
def test_a_pickle_is_dropped_in_both_directions(data: bytes) -> None:
    assert PlainValues().decrypt(data) == b'{"message":"no"}'
    assert PlainValues().encrypt(data) == b'{"message":"no"}'


@pytest.mark.parametrize(
    "data",
    [
        b"1",
        b'"__py_pickle"',
        b'["__py_pickle", {"__py_pickle": "x"}]',
        b'{"a": {"__py_pickle": "x"}, "b": 1e-3, "c": 12345678901234567890123}',
        b'{ "__PY_PICKLE": 1, "__py_pickle ": 2 }',
    ],
)
def test_values_that_the_sdk_would_not_unpickle_are_unchanged(data: bytes) -> None:
    assert PlainValues().decrypt(data) == data


@pytest.mark.parametrize(
    "data",
    [
        b" ",
        b"\xff",
        b'{"\xff":1,"__py_pickle":"x"}',
        b'{"__py_pickle":"x"',
        b'{"__py_pickle":"x"} {}',
        b'\xef\xbb\xbf{"__py_pickle":"x"}',
        '{"__py_pickle":"x"}'.encode("utf-16"),
        b'{"__py_pickle":"x","message":"\\ud800"}',
        b'{"__py_pickle":"x","message":NaN}',
        b'{"__py_pickle":"x","message":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["blank", "no UTF-8", "no UTF-8 in a name", "open", "two", "BOM", "UTF-16", "surrogate", "NaN", "deep"],
)
def test_an_unreadable_value_goes_no_further(data: bytes) -> None:
    with pytest.raises(ResonateError):
        CODEC.decode(Value(data=base64.b64encode(data).decode()))
    with pytest.raises(ResonateError):
        CODEC.decode_error(Value(data=base64.b64encode(data).decode()))


def test_the_sdk_reads_values_only_in_the_known_places() -> None:
    """Check these again with each new version of the SDK."""
    assert importlib.metadata.version("resonate-sdk") == "0.8.1"
    calls = {
        call
        for path in sorted(SDK.rglob("*.py"))
        if path.name not in {"testing.py", "local.py"} and "ext" not in path.parts
        for call in calls_in(path)
    }
    assert {call for call in calls if reads(call)} == READS_VALUES
    assert {call for call in calls if call[2] in {"dump", "dumps"}} == WRITES_PICKLES


def test_nothing_of_ours_knows_pickles_or_the_sdks_own_codec() -> None:
    """Everything that talks to a server through the SDK must pass it these values."""
    folders = ("worker", "services", "resonate-server/src", "bench/src", "scripts")
    sources = {path: path.read_text() for folder in folders for path in (REPOSITORY / folder).rglob("*.py")}
    assert len(sources) > 100
    for path, source in sources.items():
        assert not IMPORTS_PICKLES.search(source), path
        assert "NoopEncryptor" not in source, path
        assert source.count(" Resonate(") == source.count("encryptor=PlainValues()"), path


def reads(call: tuple[str, str, str]) -> bool:
    """In these modules `decode` is the codec's; elsewhere it is that of bytes or of JSON."""
    module, function, name = call
    return (
        name in READERS
        or (name == "decode" and function in {"Codec.decode_error", "Codec.decode_promise"})
        or (name == "decode" and module == "handle.py")
    )


def calls_in(path: Path) -> Iterator[tuple[str, str, str]]:
    """Return each call in a file: the file, the enclosing function, and the last name of the called object."""

    def visit(node: ast.AST, within: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            within = (*within, node.name)
        if isinstance(node, ast.Call):
            yield path.name, ".".join(within), getattr(node.func, "attr", getattr(node.func, "id", ""))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, within)

    return visit(ast.parse(path.read_text()), ())
