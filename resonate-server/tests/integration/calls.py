"""Create calls as SDKs do, for tests of the commands that show them. Asserts only that the server accepts them."""

import base64
import json
import re

from harness.server import FAR, Client


def encoded(data: object) -> dict[str, str]:
    """Encode a payload as an SDK does."""
    return {"data": base64.b64encode(json.dumps(data).encode()).decode()}


def create(client: Client, id: str, function: str = "", group: str = "g", timeout_at: int = FAR, **tags: str) -> str:
    """Create a call of ``function``, or a step if none is given, and return its id. ``a.1.1`` is a child of ``a.1`` in
    the tree ``a``."""
    lineage = {"origin": re.split("[.:]", id)[0], "parent": id.rpartition(".")[0] or id} | tags
    if function:
        lineage |= {"target": f"poll://any@{group}", "scope": "global"}
    named = {f"resonate:{name}": text for name, text in lineage.items()}
    param = encoded({"func": function, "args": [], "version": 1}) if function else {}
    assert client.call("promise.create", id=id, timeoutAt=timeout_at, param=param, tags=named).status == 200
    return id


def step_of(client: Client, caller: str, function: str) -> str:
    """Create a step that ``caller`` runs inside itself, named as our workers name it, and return its id."""
    tags = {"resonate:origin": re.split("[.:]", caller)[0], "resonate:parent": caller, "resonate:scope": "local"}
    id = f"{caller}.1"
    named = tags | {"worker:function": function}
    assert client.call("promise.create", id=id, timeoutAt=FAR, param={}, tags=named).status == 200
    return id


def acquire(client: Client, id: str, version: int = 0, pid: str = "0123456789abcdef") -> None:
    assert client.call("task.acquire", id=id, version=version, pid=pid, ttl=60_000).status == 200


def suspend(client: Client, id: str, awaited: str) -> None:
    action = {"kind": "promise.register_callback", "head": {}, "data": {"awaited": awaited, "awaiter": id}}
    assert client.call("task.suspend", id=id, version=1, actions=[action]).status == 200


def settle(client: Client, id: str, state: str = "resolved", value: object = 3) -> None:
    assert client.call("promise.settle", id=id, state=state, value=encoded(value)).status == 200
