"""Requests as clients send them, and calls as SDKs create them. Asserts only that the server accepts them."""

import base64
import json
import re
import sys
from collections.abc import Mapping
from typing import Any

from click.testing import CliRunner, Result
from harness.server import FAR, VERSION, Client

from resonate_server.client import main

RESONATE = [sys.executable, "-c", "from resonate_server.client import main; main()"]
"""The command ``resonate``, in a process of its own."""


def resonate(url: str, line: str, *more: str, logs: str = "", charset: str = "utf-8", **env: str) -> Result:
    """Run a command of ``resonate`` in this process; it ends without a traceback. ``more``: words that may have blanks;
    ``logs``: standard input."""
    result = CliRunner(charset=charset, env=env).invoke(main, [*line.split(), *more, "-S", url], logs)
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def request(kind: str, head: Mapping[str, object] | None = None, /, **data: object) -> bytes:
    """Encode a request; ``head`` is added to its head."""
    return json.dumps(
        {"kind": kind, "head": {"corrId": "1", "version": VERSION, **(head or {})}, "data": data}
    ).encode()


def action(kind: str, **data: object) -> dict[str, Any]:
    """Return a request that is part of another one."""
    return {"kind": kind, "head": {}, "data": data}


def awaiting(awaited: str, awaiter: str) -> dict[str, Any]:
    return action("promise.register_callback", awaited=awaited, awaiter=awaiter)


def named(tags: Mapping[str, str]) -> dict[str, str]:
    """Add the protocol's prefix to the names of tags."""
    return {f"resonate:{name}": text for name, text in tags.items()}


def encoded(data: object) -> dict[str, str]:
    """Encode a payload as an SDK does."""
    return {"data": base64.b64encode(json.dumps(data).encode()).decode()}


def create(client: Client, id: str, function: str = "", group: str = "g", timeout_at: int = FAR, **tags: str) -> str:
    """Create a call of ``function``, or a step if none is given, and return its id. ``a.1.1`` is a child of ``a.1`` in
    the tree ``a``, unless ``tags`` say otherwise."""
    lineage = {"origin": re.split("[.:]", id)[0], "parent": id.rpartition(".")[0] or id} | tags
    if function:
        lineage |= {"target": f"poll://any@{group}", "scope": "global"}
    param = encoded({"func": function, "args": [], "version": 1}) if function else {}
    assert client.call("promise.create", id=id, timeoutAt=timeout_at, param=param, tags=named(lineage)).status == 200
    return id


def step_of(client: Client, caller: str, function: str) -> str:
    """Create a step that ``caller`` runs inside itself, named as our workers name it, and return its id."""
    id = f"{caller}.1"
    tags = named({"origin": re.split("[.:]", caller)[0], "parent": caller, "scope": "local"})
    tags |= {"worker:function": function}
    assert client.call("promise.create", id=id, timeoutAt=FAR, param={}, tags=tags).status == 200
    return id


def acquire(client: Client, id: str, version: int = 0, pid: str = "0123456789abcdef") -> None:
    assert client.call("task.acquire", id=id, version=version, pid=pid, ttl=60_000).status == 200


def suspend(client: Client, id: str, awaited: str) -> None:
    assert client.call("task.suspend", id=id, version=1, actions=[awaiting(awaited, id)]).status == 200


def settle(client: Client, id: str, state: str = "resolved", value: object = 3) -> None:
    assert client.call("promise.settle", id=id, state=state, value=encoded(value)).status == 200
