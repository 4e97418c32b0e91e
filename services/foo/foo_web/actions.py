"""What the server's live page offers to do with this demo: it reads the list here, and posts its clicks here.

GET  /actions                            the list
POST /actions/request                    {"pause": seconds} or {"running": seconds} starts a chain: 202 {"id"}
POST /actions/kill, kill-at-work, freeze {"worker": address} calls that worker to fail: 202 {"id"}; with DEMO_FAULTS=1
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import BadRequest

_SECONDS = {"type": "number", "default": 10, "min": 0, "max": 3600, "unit": "s"}
_REQUESTS = [
    {"name": "request", "label": "Send a request", "fields": [{"name": "pause", "label": "Pause", **_SECONDS}]},
    {"name": "work", "label": "Have bar work", "fields": [{"name": "running", "label": "Work", **_SECONDS}]},
]
_COMMANDS = [
    {"label": "Send a request, kill bar in the middle, and start it again", "text": "scripts/crash-bar.sh"},
    {"label": "The same, but bar stays dead", "text": "scripts/crash-bar.sh --keep-down"},
    {"label": "Start whatever is dead", "text": "scripts/up.sh"},
]
_BREAK = {"name": "break", "label": "Break it", "commands": _COMMANDS}
_ON = "The buttons beside each worker kill or freeze it. To remove them: DEMO_FAULTS=0 scripts/up.sh --recreate"
_OFF = "For buttons beside each worker that kill or freeze it: DEMO_FAULTS=1 scripts/up.sh --recreate"
_BACK = "Docker restarts it, and gunicorn restarts foo; other processes are started again by scripts/up.sh."
_FAULTS = [
    {"name": "kill", "label": "Kill", "workers": "service-", "note": f"It dies at once, as by kill -9. {_BACK}"},
    {
        "name": "kill-at-work",
        "label": "Kill at work",
        "workers": "service-bar",
        "note": f"It dies as soon as it works: “Have bar work” gives it something to do. {_BACK}",
    },
    {
        "name": "freeze",
        "label": "Freeze 15 s",
        "workers": "service-",
        "note": "It stands still for 15 s, longer than its lease, so other workers may take over what it was doing.",
    },
]


class _Click(msgspec.Struct):
    worker: Annotated[str, msgspec.Meta(pattern=r"\Apoll://any@[\w.-]+/\w+\Z")]
    """Its address, which another worker of its group answers to when it is gone."""


def offer_actions(
    app: Flask, start: Callable[[], Awaitable[str]], fail: Callable[[str, str], Awaitable[str]] | None
) -> None:
    """`start` begins the chain that the request's body describes, `fail` the fault of a worker: each gives the id.

    Without `fail` no fault is offered.
    """

    @app.get("/actions")
    def show() -> Response:
        shown = {**_BREAK, "note": _ON if fail else _OFF}
        return _json({"actions": [*_REQUESTS, shown, *(_FAULTS if fail else [])]}, 200)

    @app.post("/actions/<any(request, work):_>")
    async def begin(_: str) -> Response:
        return _json({"id": await start()}, 202)

    if fail:

        @app.post('/actions/<any(kill, "kill-at-work", freeze):fault>')
        async def break_one(fault: str) -> Response:
            try:
                click = msgspec.json.decode(request.get_data(), type=_Click)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                raise BadRequest(f"the body must name a worker: {error}") from None
            return _json({"id": await fail(fault, click.worker)}, 202)


def _json(answer: Any, status: int) -> Response:
    return Response(msgspec.json.encode(answer) + b"\n", status, content_type="application/json")
