"""The HTTP interface of foo.

    POST /foo       start the chain and wait for its result: 200 {"id", "message"}
    GET /foo/<id>   what is known about a chain: 200 {"id", "state", "message" or "error"}
    /actions        what the live page offers to do (`actions`)
    GET /health     200 while requests can be served, 503 otherwise

What a client may send with POST: a JSON object {"pause": seconds} or {"running": seconds} (`inputs.Spend`); the
header Idempotency-Key, which becomes the id, so that a repetition joins the same chain, also with an empty body; the
header Prefer with respond-async or wait=<seconds>, which asks for 202 and a Location instead of a long wait.

Errors are application/problem+json with the id where one is known: 400, 404, 405 and 413 for what the client did wrong,
409 and 422 for a key that stands for something else, 403, 415 and 421 for what web pages must not do (`gate`), 500
with the message of a function that failed, 502 for what the Resonate server says and foo cannot use, 503 with
Retry-After if the request may be repeated.
"""

import contextlib
import select
import socket
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Flask, Response, g, request, url_for
from gunicorn.http.errors import NoMoreData, ParseException

from foo_web.actions import offer_actions
from foo_web.arrivals import MAX_BODY_BYTES
from foo_web.chains import Chain, Chains
from foo_web.gate import guard
from foo_web.inputs import Preference, Spend, is_key, parse_body, parse_key, parse_preference
from foo_web.logs import log_requests
from foo_web.places import Places
from foo_web.problems import Problem, answer_problems

MAX_WAITING = 512
# What fits into the buffer of a connection, so that no thread waits for a client that does not read.
MAX_ANSWER_BYTES = 64 * 1024


def create_app(chains: Chains, hosts: str) -> Flask:
    """`hosts`: see `guard`."""
    app = Flask(__name__)
    log_requests(app)
    answer_problems(app)
    guard(app, hosts)
    places = Places(MAX_WAITING)
    offer_actions(app, lambda: chains.begin(parse_key(None), parse_body(_body())).id)

    @app.post("/foo")
    def start() -> Response:
        spend = parse_body(_body())
        id = g.chain_id = parse_key(request.headers.get("Idempotency-Key"))
        preference = parse_preference(request.headers.get("Prefer"))
        chain = _start(id, spend, preference)
        response = _result(chain)
        if preference.applied:
            response.headers["Preference-Applied"] = preference.applied
        return response

    def _start(id: str, spend: Spend, preference: Preference) -> Chain:
        if preference.wait == 0:
            return _join_or_begin(id, spend)
        with places.take(spend.seconds if preference.wait is None else min(spend.seconds, preference.wait)):
            chain = _join_or_begin(id, spend)
            if chain.state != "pending":
                return chain
            return chains.wait(id, spend, preference.wait, lambda: _client_has_left(places)) or chain

    def _join_or_begin(id: str, spend: Spend) -> Chain:
        """Looked up first: to begin with the id of another service's call would take that call from its workers."""
        known = chains.known(id, spend) if "Idempotency-Key" in request.headers else None
        return known or chains.begin(id, spend)

    @app.get("/foo/<id>")
    def look_up(id: str) -> Response:
        g.chain_id = id
        if not is_key(id):
            raise Problem(HTTPStatus.NOT_FOUND, "no chain has this id")
        return _json(chains.look_up(id))

    @app.get("/health")
    def health() -> Response:
        if not chains.is_connected():
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not connected to the Resonate server", 1)
        return Response('{"status":"ok"}\n', content_type="application/json")

    return app


def _result(chain: Chain) -> Response:
    """The answer to the client that started the chain."""
    if isinstance(chain.error, str):
        raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, chain.error)
    if chain.state == "pending":
        response = _json(chain, HTTPStatus.ACCEPTED)
        response.headers["Location"] = url_for("look_up", id=chain.id)
        return response
    return _json({"id": chain.id, "message": chain.message})


def _json(answer: Chain | dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Response:
    document = msgspec.json.encode(answer)
    if len(document) > MAX_ANSWER_BYTES:
        raise Problem(HTTPStatus.BAD_GATEWAY, f"the result is too large to be shown: {len(document)} bytes")
    return Response(document + b"\n", status.value, content_type="application/json")


def _body() -> bytes:
    """The body, which has arrived by now (`connections`); less of it only if it is too large anyway."""
    with contextlib.suppress(NoMoreData):
        if (request.content_length or 0) <= MAX_BODY_BYTES:
            try:
                body: bytes = request.environ["wsgi.input"].read(MAX_BODY_BYTES + 1)
            except ParseException as error:
                raise Problem(HTTPStatus.BAD_REQUEST, f"the body's chunks are malformed: {error}") from None
            if len(body) <= MAX_BODY_BYTES:
                return body
    raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {MAX_BODY_BYTES} bytes")


def _client_has_left(places: Places) -> bool:
    """Whether a waiting request should make room.

    A connection whose client has closed its side may still be read (`nc -N`), or not, as that client's process has
    ended: nobody can tell before something is sent. So such a request waits on, until places become short.
    """
    connection: socket.socket = request.environ["gunicorn.socket"]
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        has_ended = connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True
    return has_ended and places.are_short()
