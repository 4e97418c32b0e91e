"""Calls of workers' functions, made by requests of the protocol: by nobody's SDK."""

import base64
import json
from typing import Any

from harness.basics import wait_until
from harness.server import FAR, VERSION, Client, Reply


class Calls:
    """What anybody may do to a server: create promises, look at them, and settle them."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self._client = Client(port)
        self._head = {"corrId": "test", "version": VERSION} | ({"auth": token} if token else {})

    def begin(self, id: str, group: str, function: str, *args: Any, **members: Any) -> str:
        """Have a worker of the group run the function. `members`: more of what the promise says of the call."""
        call = {"func": function, "args": args, "kwargs": {}, "version": 1} | members
        tags = {"resonate:target": f"poll://any@{group}"}
        param = {"data": _base64(json.dumps(call).encode())}
        created = self._call("promise.create", id=id, timeoutAt=FAR, param=param, tags=tags)
        assert created.status == 200, created
        return id

    def promise(self, id: str) -> dict[str, Any]:
        promise: dict[str, Any] = self._call("promise.get", id=id).data["promise"]
        return promise

    def child(self, id: str) -> str:
        """The promise that the function of `id` awaits, when it does."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = self._call("promise.search", tags={"resonate:parent": id}).data["promises"]
            return bool(found)

        wait_until(look, f"{id} awaits something")
        return str(found[0]["id"])

    def reject(self, id: str, value: bytes) -> None:
        settled = self._call("promise.settle", id=id, state="rejected", value={"data": _base64(value)})
        assert settled.status == 200, settled

    def settled(self, id: str) -> dict[str, Any]:
        wait_until(lambda: self.promise(id)["state"] != "pending", f"{id} is settled")
        return self.promise(id)

    def result(self, id: str) -> Any:
        """What the function returned, or how it failed."""
        return json.loads(written(self.settled(id)))

    def _call(self, kind: str, **data: Any) -> Reply:
        return self._client.post(json.dumps({"kind": kind, "head": self._head, "data": data}).encode())


def written(promise: dict[str, Any]) -> bytes:
    """The value of a promise as its bytes."""
    return base64.b64decode(promise["value"]["data"])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
