"""Values contain no code; and the places where the SDK would look for code in them."""

import base64
import importlib.metadata
import pickle
import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
import resonate
from resonate.codec import Codec
from resonate.context import Context
from resonate.error import ApplicationError, ResonateError
from resonate.retry import Never
from resonate.testing import local_resonate
from resonate.types import Value

from worker.values import PlainValues

from .group import Group

SDK = Path(resonate.__file__).parent
REPOSITORY = Path(__file__).parents[2]
CODEC = Codec(PlainValues())


async def test_in_a_test_without_a_server_an_error_arrives_as_from_a_worker() -> None:
    async def fail(ctx: Context) -> None:  # noqa: ARG001
        raise ValueError("sold out")

    local = local_resonate(encryptor=PlainValues(), retry_policy=Never())
    local.register(fail)
    with pytest.raises(ApplicationError, match="sold out"):
        await local.run("a", fail).result()
    await local.stop()


IMPORTS_PICKLES = re.compile(
    r"^\s*(?:from|import\b.*?)[ \t](?:pickle|cPickle|_pickle|dill|cloudpickle|marshal|shelve)\b", re.MULTILINE
)


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


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


async def error_of(awaited: Awaitable[object]) -> list[str]:
    try:
        await awaited
    except Exception as error:
        return [type(error).__name__, str(error)]
    return []


async def test_code_in_a_value_does_not_run_and_the_message_beside_it_arrives(group: Group, tmp_path: Path) -> None:
    async def ask_function(ctx: Context) -> list[str]:
        return await error_of(ctx.options(target="nobody").rpc("answer"))

    async def ask_person(ctx: Context) -> list[str]:
        return await error_of(ctx.promise())

    async def give_back(ctx: Context, value: object) -> object:  # noqa: ARG001
        return value

    mark = tmp_path / "executed"
    pickled = pickle.dumps(Touch(mark))
    code = base64.b64encode(pickled).decode()
    written = {
        '{"__type":"error","message":"no","__py_pickle":"%s"}': "no",
        r'{"__py_pickle":"","message":"yes","__py_\u0070ickle":"%s","message":"no"}': "no",
        '{"__py_pickle":"%s"}': "unknown error: {}",
        '"%s"': f'unknown error: "{code}"',
    }
    await group.work(ask_function, ask_person, give_back)
    for function in ("ask_function", "ask_person"):
        for value, message in written.items():
            id = group.begin(function)
            await group.waits(id)
            group.settle_as(f"{id}:1", "rejected", value.replace("%s", code).encode())
            assert await group.result(id) == ["ApplicationError", message]
    result = await group.result(group.begin("give_back", {"message": "no", "__py_pickle": code}))
    assert result == {"message": "no"}
    assert not mark.exists()
    pickle.loads(pickled)
    assert mark.exists(), "it would have run"


def test_the_sdk_reads_values_only_in_the_known_places() -> None:
    """Whatever comes from a server passes `Codec.decode`, and so the encryptor, before the SDK looks for a pickle in
    it: `decode_settled` gets what `decode_promise` has decoded. Check these again with each new version of the SDK."""
    assert importlib.metadata.version("resonate-sdk") == "0.8.1"
    calls = {call: places_of(call) for call in ("pickle.loads(", "_deserialize_error(", "decode_settled(")}
    assert calls == {
        "pickle.loads(": {"codec.py": 1},
        "_deserialize_error(": {"codec.py": 3},
        "decode_settled(": {"codec.py": 1, "context.py": 3},
    }
    assert set(places_of("decode_promise(")) == {
        "codec.py", "core.py", "effects.py", "promises.py", "resonate.py",
    }  # fmt: skip


def test_nothing_of_ours_knows_pickles_or_the_sdks_own_codec() -> None:
    """Everything that talks to a server through the SDK must pass it these values."""
    folders = ("worker", "services", "resonate-server/src", "bench/src", "scripts")
    sources = {path: path.read_text() for folder in folders for path in (REPOSITORY / folder).rglob("*.py")}
    assert len(sources) > 100
    for path, source in sources.items():
        assert not IMPORTS_PICKLES.search(source), path
        assert "NoopEncryptor" not in source, path
        assert source.count(" Resonate(") == source.count("encryptor=PlainValues()"), path


def places_of(call: str) -> dict[str, int]:
    """Return how often each file of the SDK has this call, its definition included."""
    counts = {str(path.relative_to(SDK)): path.read_text().count(call) for path in SDK.rglob("*.py")}
    return {name: count for name, count in counts.items() if count and name != "testing.py"}
