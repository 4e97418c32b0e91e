"""What the server's live page offers to do with this demo: it reads the list here, and posts its clicks here.

GET  /actions           the list
POST /actions/request   {"pause": seconds} starts a chain: 202 {"id"}
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from flask import Flask, Response

_REQUEST = {
    "name": "request",
    "label": "Send a request",
    "fields": [
        {"name": "pause", "label": "Pause", "type": "number", "default": 10, "min": 0, "max": 3600, "unit": "s"},
    ],
}
_BREAK = {
    "name": "break",
    "label": "Break it",
    "commands": [
        {"label": "Send a request, kill bar in the middle, and start it again", "text": "scripts/crash-bar.sh"},
        {"label": "The same, but bar stays dead", "text": "scripts/crash-bar.sh --keep-down"},
        {"label": "Start whatever is dead", "text": "scripts/up.sh"},
    ],
}


def offer_actions(app: Flask, start: Callable[[], Awaitable[str]]) -> None:
    """`start` begins the chain that the request's body describes, and returns its id."""

    @app.get("/actions")
    def show() -> Response:
        return _json({"actions": [_REQUEST, _BREAK]}, 200)

    @app.post("/actions/request")
    async def request() -> Response:
        return _json({"id": await start()}, 202)


def _json(answer: Any, status: int) -> Response:
    return Response(msgspec.json.encode(answer) + b"\n", status, content_type="application/json")
