"""Requests that no client should send: those of the comparisons, corrupted at random. One seed gives one sequence."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

from differential.operations import BITS, EVERYTHING, Request, Scene
from harness.server import FAR, VERSION

UNKNOWN = Scene(now=FAR, promises={}, tasks={}, awaited=())
"""The state of the server is not looked at, so many requests are refused."""

type Body = dict[str, Any]


_WRONG: list[Any] = [None, True, -1, 0, 1.5, 2.0, 1e300, 2**63, -(2**70), [], {}, [[]], {"a": None}, ["a"]]
_WRONG += ["", "\0", "\u2028", "é" * 5_000]


def requests(seed: int) -> Iterator[bytes]:
    """Yield request bodies forever. About one in three is left intact, so that the state keeps changing."""
    rng = random.Random(seed)
    while True:
        operation = EVERYTHING.decode(rng.getrandbits(BITS), UNKNOWN)
        if not isinstance(operation, Request):
            continue
        data = operation.data_for(lambda _: rng.randrange(3))
        envelope: Body = {"kind": operation.kind, "head": {"corrId": "c", "version": VERSION}, "data": data}
        for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 5])):
            _spoil(envelope, rng)
        body = json.dumps(envelope, ensure_ascii=rng.random() < 0.5).encode()
        yield _spoil_bytes(body, rng) if rng.random() < 0.15 else body


def _spoil(envelope: Body, rng: random.Random) -> None:
    """Replace or drop one member somewhere."""
    node: Any = envelope
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(node[key], dict | list) and rng.random() < 0.7:
            node = node[key]
            continue
        if rng.random() < 0.2 and isinstance(node, dict):
            del node[key]
        else:
            node[key] = copy.deepcopy(rng.choice(_WRONG))
        return


def _spoil_bytes(body: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(body))
    match rng.randrange(5):
        case 0:
            return body[:position]
        case 1:
            return body[:position] + rng.randbytes(rng.randint(1, 8)) + body[position:]
        case 2:
            return body[:position] + b"[" * rng.choice([10, 1_000, 20_000]) + body[position:]
        case 3:
            return body[:position] + rb"\u0000\ud800"[: rng.randint(1, 12)] + body[position:]
        case _:
            return rng.randbytes(rng.randint(0, 200))
