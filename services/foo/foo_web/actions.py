"""Actions that the server's live page offers for this demo: the server gets the list here, and forwards clicks here.

GET  /actions                            the list, from actions.json; with DEMO_FAULTS=1 it includes faults
POST /actions/request, work              {"pause": seconds} or {"running": seconds}: like POST /foo, answered at once
POST /actions/kill, kill-at-work, freeze {"worker": address} makes that worker fail: 202 {"id"}
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import BadRequest

from foo_web.flask_async import as_json

_LISTED: dict[str, Any] = msgspec.json.decode(Path(__file__).with_suffix(".json").read_bytes())
_ON = "The buttons beside each worker kill or freeze it. To remove them: DEMO_FAULTS=0 scripts/up.sh --recreate"
_OFF = "For buttons beside each worker that kill or freeze it: DEMO_FAULTS=1 scripts/up.sh --recreate"


class _Click(msgspec.Struct):
    worker: Annotated[str, msgspec.Meta(pattern=r"\Apoll://any@[\w.-]+/\w+\Z")]
    """The worker's address. Once that worker is gone, another one of its group gets the call."""


def offer_actions(app: Flask, fail: Callable[[str, str], Awaitable[str]] | None) -> None:
    """Offer the list and, with `fail`, faults: it makes a worker fail, and returns the id of the call that does so."""
    *requests, commands = _LISTED["actions"]
    offered = [*requests, commands | {"note": _ON if fail else _OFF}, *(_LISTED["faults"] if fail else [])]

    @app.get("/actions")
    def show() -> Response:
        return as_json({"actions": offered})

    if fail:

        @app.post('/actions/<any(kill, "kill-at-work", freeze):fault>')
        async def break_one(fault: str) -> Response:
            try:
                click = msgspec.json.decode(request.get_data(), type=_Click)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                raise BadRequest(f"the body must name a worker: {error}") from None
            return as_json({"id": await fail(fault, click.worker)}, 202)
