"""Requests that no client should send: valid ones of every kind, corrupted at random. One seed gives one sequence."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

VERSION = "2026-04-01"
FAR = 4_102_444_800_000
IDS = ["a", "b", "a:1", "a:1.1", "é", "x" * 200]
ADDRESS = "poll://any@nobody"

type Body = dict[str, Any]


def _create(rng: random.Random) -> Body:
    id = rng.choice(IDS)
    tags = {"resonate:target": ADDRESS, "resonate:branch": id, "resonate:origin": "a", "resonate:parent": "a"}
    kept = {name: value for name, value in tags.items() if rng.random() < 0.8}
    return {"id": id, "timeoutAt": rng.choice([FAR, 0, 1]), "param": {"data": "e30="}, "tags": kept}


def _settle(rng: random.Random) -> Body:
    return {"id": rng.choice(IDS), "state": rng.choice(["resolved", "rejected", "rejected_canceled"]), "value": {}}


def _action(kind: str, data: Body) -> Body:
    return {"kind": kind, "head": {"corrId": "i", "version": VERSION}, "data": data}


VALID: dict[str, Callable[[random.Random], Body]] = {
    "promise.get": lambda rng: {"id": rng.choice(IDS)},
    "promise.create": _create,
    "promise.settle": _settle,
    "promise.register_callback": lambda rng: {"awaited": rng.choice(IDS), "awaiter": rng.choice(IDS)},
    "promise.register_listener": lambda rng: {"awaited": rng.choice(IDS), "address": "poll://uni@nobody/1"},
    "promise.search": lambda rng: {"tags": {}, "limit": rng.randint(1, 100)},
    "task.get": lambda rng: {"id": rng.choice(IDS)},
    "task.create": lambda rng: {"pid": "p", "ttl": 1_000, "action": _action("promise.create", _create(rng))},
    "task.acquire": lambda rng: {"id": rng.choice(IDS), "version": rng.randint(0, 3), "pid": "p", "ttl": 1_000},
    "task.release": lambda rng: {"id": rng.choice(IDS), "version": rng.randint(0, 3)},
    "task.fulfill": lambda rng: {"id": "a", "version": 1, "action": _action("promise.settle", _settle(rng))},
    "task.suspend": lambda rng: {
        "id": "a",
        "version": rng.randint(0, 3),
        "actions": [_action("promise.register_callback", {"awaited": rng.choice(IDS), "awaiter": "a"})],
    },
    "task.fence": lambda rng: {"id": "a", "version": 1, "action": _action("promise.create", _create(rng))},
    "task.heartbeat": lambda rng: {"pid": "p", "tasks": [{"id": rng.choice(IDS), "version": 1}]},
    "task.halt": lambda rng: {"id": rng.choice(IDS)},
    "task.continue": lambda rng: {"id": rng.choice(IDS)},
    "task.search": lambda rng: {"limit": rng.randint(1, 100)},
    "schedule.get": lambda rng: {"id": rng.choice(IDS)},
    "schedule.create": lambda rng: {
        "id": rng.choice(IDS),
        "cron": rng.choice(["0 0 1 1 *", "* * * * * 99", "61 * * * *", "0 0 0 ? * 7L 2099"]),
        "promiseId": "{{.id}}-{{.timestamp}}",
        "promiseTimeout": 1,
        "promiseTags": {"resonate:target": ADDRESS},
    },
    "schedule.delete": lambda rng: {"id": rng.choice(IDS)},
    "schedule.search": lambda _: {},
    "debug.reset": lambda _: {},
}

_WRONG: list[Any] = [None, True, -1, 0, 1.5, 2.0, 1e300, 2**63, -(2**70), [], {}, [[]], {"a": None}, ["a"]]
_WRONG += ["", "\0", "\u2028", "é" * 5_000]


def requests(seed: int) -> Iterator[bytes]:
    """Yield request bodies forever. About one in three is left intact, so that the state keeps changing."""
    rng = random.Random(seed)
    kinds = list(VALID)
    while True:
        kind = rng.choice(kinds)
        envelope: Body = {"kind": kind, "head": {"corrId": "c", "version": VERSION}, "data": VALID[kind](rng)}
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
