"""Calls of workers' functions, made with plain requests of the protocol and no SDK."""

import base64
import json
from typing import Any

from harness.basics import wait_until
from harness.server import FAR, VERSION, Client, Reply


class Calls:
    """What any client of a server may do: create promises, look at them, and settle them."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self._client = Client(port)
        self._head = {"corrId": "test", "version": VERSION} | ({"auth": token} if token else {})

    def begin(self, id: str, group: str, function: str, *args: Any, **members: Any) -> str:
        """Let a worker of the group run the function. `members`: further members of the call in the promise."""
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
        """Wait until the function of `id` awaits a promise, and return that promise's id."""
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
        """Return what the function returned, or its error."""
        return json.loads(written(self.settled(id)))

    def _call(self, kind: str, **data: Any) -> Reply:
        return self._client.post(json.dumps({"kind": kind, "head": self._head, "data": data}).encode())


def written(promise: dict[str, Any]) -> bytes:
    """Return the value of a promise as bytes."""
    return base64.b64decode(promise["value"]["data"])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
