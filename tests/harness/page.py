"""The requests of the live page, made without a browser."""

import json
from http.client import HTTPConnection, HTTPResponse
from typing import Any, Self
from urllib.parse import urlencode

from harness.http import Response, request


class Page:
    def __init__(self, port: int, token: str = "") -> None:
        self._port = port
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str, headers: dict[str, str] | None = None, **query: str) -> Response:
        return self._request("GET", path + (f"?{urlencode(query)}" if query else ""), None, headers or {})

    def act(self, body: bytes = b"{}", name: str = "request", **headers: str) -> Response:
        """Click an action as the page does, unless ``headers`` (with ``_`` for ``-``) say otherwise."""
        usual = {"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin"}
        given = {name.replace("_", "-"): text for name, text in headers.items()}
        return self._request("POST", f"/ui/api/actions/{name}", body, usual | given)

    def watch(self, after: str = "", past: int = 0) -> "Watching":
        return Watching(self._port, {"after": after, "past": past}, self._headers)

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Response:
        return request(self._port, method, path, body, self._headers | headers)


class Watching:
    """An open stream of events. ``hello`` is its first line; ``seen`` holds the events read so far."""

    def __init__(self, port: int, query: dict[str, Any], headers: dict[str, str]) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.request("GET", "/ui/api/events?" + urlencode(query), headers=headers)
        self._response: HTTPResponse = self._connection.getresponse()
        self.status = self._response.status
        self.seen: list[dict[str, Any]] = []
        self.hello: dict[str, Any] = self.line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def line(self) -> dict[str, Any]:
        """Return the next line; raise ``EOFError`` if the stream has ended, ``TimeoutError`` if no line comes."""
        text = self._response.readline()
        if not text:
            raise EOFError
        said: dict[str, Any] = json.loads(text)
        return said

    def until(self, kind: str, **members: Any) -> dict[str, Any]:
        """Read on to the next event of this kind with these members, and return it."""
        while True:
            event = self.line()
            self.seen.append(event)
            if event["kind"] == kind and members.items() <= event.items():
                return event

    @property
    def place(self) -> str:
        """The position from which to resume."""
        seen = [event["seq"] for event in self.seen if "seq" in event]
        return f"{self.hello['epoch']}:{max([self.hello['seq'], *seen])}"

    def close(self) -> None:
        self._response.close()
        self._connection.close()
