"""The HTTP interface of foo.

    POST /foo       start the chain and wait for its result: 200 {"id", "message"}
    GET /foo/<id>   the status of a chain: 200 {"id", "state", "message" or "error"}
    GET /health     200 while requests can be served, 503 otherwise

A POST may have a JSON object {"pause": seconds} or {"running": seconds} (`inputs.Delays`); the header Idempotency-Key,
which becomes the id, so that a repeated request joins the same chain, even with an empty body; and the header Prefer
with respond-async or wait=<seconds>, which asks for 202 and a Location instead of a long wait.

The server's live page gets its actions for this demo here, and forwards clicks here:

    GET  /actions                            the list, from actions.json; with DEMO_FAULTS=1 it includes faults
    POST /actions/request, work              {"pause": seconds} or {"running": seconds}: a POST /foo, answered at once
    POST /actions/kill, kill-at-work, freeze {"worker": address} makes that worker fail: 202 {"id"}

Errors are application/problem+json (RFC 9457), with the id if it is known: 400, 404, 405 and 413 for client errors,
409 and 422 for a key that is in use for something else, 403, 415 and 421 for requests that web pages must not make,
500 with the message of a function that failed, 502 for an answer of the Resonate server that foo cannot use,
503 with Retry-After if the request may be repeated.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import msgspec
from flask import Response, g, request, url_for
from werkzeug.exceptions import HTTPException, InternalServerError, NotFound, ServiceUnavailable

from foo_web import inputs
from foo_web.chains import MAX_ERROR_CHARACTERS, UNKNOWN, Chains
from foo_web.flask_async import AsyncFlask, as_json

MAX_WAITING = 512
_LISTED: dict[str, Any] = msgspec.json.decode(Path(__file__).with_name("actions.json").read_bytes())
_ON = "The buttons beside each worker kill or freeze it. To remove them: DEMO_FAULTS=0 scripts/up.sh --recreate"
_OFF = "For buttons beside each worker that kill or freeze it: DEMO_FAULTS=1 scripts/up.sh --recreate"


class _Click(msgspec.Struct):
    worker: Annotated[str, msgspec.Meta(pattern=r"\Apoll://any@[\w.-]+/\w+\Z")]
    """The worker's address. Once that worker is gone, another one of its group gets the call."""


def create_app(chains: Chains, hosts: str, *, offers_faults: bool) -> AsyncFlask:
    """`hosts`: names of foo besides loopback's, see `inputs.parse_hosts`."""
    app = AsyncFlask(__name__)
    app.register_error_handler(HTTPException, _problem)
    if chains.tracing is not None:
        from foo_web.tracing import trace_requests  # not at the top: its packages are optional

        trace_requests(app, chains.tracing.tracer)
    known_hosts = inputs.parse_hosts(hosts)
    app.before_request(lambda: inputs.check_host_and_origin(known_hosts))
    ends: list[float] = []

    @app.post("/foo")
    @app.post("/actions/<any(request, work):action>")
    async def start(action: str = "") -> Response:
        delays = inputs.parse_delays()
        id = g.chain_id = inputs.parse_key(request.headers.get("Idempotency-Key"))
        wait, applied = inputs.parse_preference("respond-async" if action else request.headers.get("Prefer", ""))
        seconds = min(sum(delays.arguments), math.inf if wait is None else wait)
        with nullcontext() if wait == 0 else _place(ends, seconds):
            chain = await chains.start(id, delays, wait, may_exist="Idempotency-Key" in request.headers)
        if isinstance(chain.error, str):
            raise InternalServerError(chain.error)
        if chain.state == "pending":
            response = as_json(chain, HTTPStatus.ACCEPTED)
            response.headers["Location"] = url_for("look_up", id=id)
        else:
            response = as_json({"id": id, "message": chain.message})
        if applied:
            response.headers["Preference-Applied"] = applied
        return response

    @app.get("/foo/<id>")
    async def look_up(id: str) -> Response:
        g.chain_id = id
        if not inputs.KEY.fullmatch(id):
            raise NotFound(UNKNOWN)
        return as_json(await chains.look_up(id))

    @app.get("/health")
    def health() -> Response:
        if not chains.is_connected():
            raise ServiceUnavailable("not connected to the Resonate server", retry_after=1)
        return as_json({"status": "ok"})

    @app.get("/actions")
    def show_actions() -> Response:
        *requests, commands = _LISTED["actions"]
        faults = _LISTED["faults"] if offers_faults else []
        return as_json({"actions": [*requests, commands | {"note": _ON if faults else _OFF}, *faults]})

    if offers_faults:

        @app.post('/actions/<any(kill, "kill-at-work", freeze):fault>')
        async def break_one(fault: str) -> Response:
            click = inputs.parse_json(_Click, "name a worker")
            return as_json({"id": await chains.fail(fault, click.worker)}, HTTPStatus.ACCEPTED)

    return app


@contextmanager
def _place(ends: list[float], seconds: float) -> Iterator[None]:
    """Hold a place for a request that waits at least `seconds`. `ends`: when other requests may get their results."""
    end = time.monotonic() + seconds
    if len(ends) >= MAX_WAITING:
        detail = (
            f"{MAX_WAITING} requests are already waiting. With the header Prefer: respond-async a request does not wait"
        )
        raise ServiceUnavailable(detail, retry_after=max(1, math.ceil(min(ends) - time.monotonic())))
    ends.append(end)
    try:
        yield
    finally:
        ends.remove(end)


def _problem(error: HTTPException) -> Any:
    """Turn an error into a problem document (RFC 9457). Other headers, such as Retry-After and Allow, are kept."""
    response, id, detail = error.get_response(), g.get("chain_id"), (error.description or "")[:MAX_ERROR_CHARACTERS]
    if id and request.method == "POST" and "Retry-After" in response.headers:
        # A request repeated with this key joins the chain if it has begun.
        detail += f". Repeat the request with the header Idempotency-Key: {id}"
    if detail == NotFound.description:
        detail = "there is no such resource"  # the default text assumes that a person typed the URL
    status = HTTPStatus(response.status_code)
    document = {"title": status.phrase, "status": status, "detail": detail} | ({"id": id} if id else {})
    response.data = msgspec.json.encode(document) + b"\n"
    response.content_type = "application/problem+json"
    return response
