"""The HTTP interface of foo.

    POST /foo       start the chain and wait for its result: 200 {"id", "message"}
    GET /foo/<id>   what is known about a chain: 200 {"id", "state", "message" or "error"}
    GET /health     200 while requests can be served, 503 otherwise

What a client may send with POST: a JSON object {"pause": seconds} or {"running": seconds} (`inputs.Spend`); the
header Idempotency-Key, which becomes the id, so that a repetition joins the same chain whatever its body says;
the header Prefer with respond-async or wait=<seconds>, which asks for 202 and a Location instead of a long wait.

Errors are application/problem+json with the id where one is known: 400, 404, 405 and 413 for what the client did
wrong, 500 with the message of a function that failed, 503 with Retry-After if the request may be repeated.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Flask, Response, g, request, url_for

from foo_web.chains import (
    Chain,
    Chains,
    ClientGoneError,
    StoppingError,
    UnknownChainError,
    UnreachableError,
)
from foo_web.inputs import is_key, parse_body, parse_key, parse_preference
from foo_web.problems import Problem, answer_problems

MAX_WAITING = 512
MAX_BODY_BYTES = 16 * 1024


class _Answer(msgspec.Struct, omit_defaults=True):
    id: str
    state: str | msgspec.UnsetType = msgspec.UNSET
    message: Any = msgspec.UNSET
    error: str | msgspec.UnsetType = msgspec.UNSET


def create_app(chains: Chains) -> Flask:
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    answer_problems(app)
    places = threading.BoundedSemaphore(MAX_WAITING)

    @app.post("/foo")
    def start() -> Response:
        spend = parse_body(request.get_data())
        id = g.chain_id = parse_key(request.headers.get("Idempotency-Key"))
        preference = parse_preference(request.headers.get("Prefer"))
        with _place(places), _problems():
            chains.begin(id, spend)
            if preference.wait == 0:
                chain = chains.look_up(id)
            else:
                chain = chains.wait(id, preference.wait, _client_is_gone) or Chain(id, "pending")
        response = _result(chain)
        if preference.applied:
            response.headers["Preference-Applied"] = preference.applied
        return response

    @app.get("/foo/<id>")
    def look_up(id: str) -> Response:
        g.chain_id = id
        if not is_key(id):
            raise Problem(HTTPStatus.NOT_FOUND, "no chain has this id")
        with _problems():
            return _json(_description(chains.look_up(id)))

    @app.get("/health")
    def health() -> Response:
        if not chains.is_connected():
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not connected to the Resonate server", 1)
        return Response('{"status":"ok"}\n', content_type="application/json")

    return app


def _result(chain: Chain) -> Response:
    """The answer to the client that started the chain."""
    if chain.error is not None:
        raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, chain.error)
    if chain.state == "pending":
        response = _json(_description(chain), HTTPStatus.ACCEPTED)
        response.headers["Location"] = url_for("look_up", id=chain.id)
        return response
    return _json(_Answer(chain.id, message=chain.message))


def _description(chain: Chain) -> _Answer:
    if chain.error is not None:
        return _Answer(chain.id, chain.state, error=chain.error)
    if chain.state == "pending":
        return _Answer(chain.id, chain.state)
    return _Answer(chain.id, chain.state, message=chain.message)


def _json(answer: _Answer, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(answer) + b"\n", status.value, content_type="application/json")


@contextlib.contextmanager
def _place(places: threading.BoundedSemaphore) -> Iterator[None]:
    """Leave some threads to requests that do not wait."""
    if not places.acquire(blocking=False):
        raise _come_back(f"{MAX_WAITING} requests are waiting already", seconds=5)
    try:
        yield
    finally:
        places.release()


@contextlib.contextmanager
def _problems() -> Iterator[None]:
    try:
        yield
    except UnknownChainError:
        if request.method == "POST":
            raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the Resonate server has forgotten this chain") from None
        raise Problem(HTTPStatus.NOT_FOUND, "no chain has this id") from None
    except UnreachableError as error:
        raise _come_back(str(error), seconds=2) from None
    except StoppingError:
        raise _come_back("foo is shutting down; the chain goes on", seconds=1) from None
    except ClientGoneError:
        raise _come_back("the client has gone", seconds=1) from None


def _come_back(reason: str, seconds: int) -> Problem:
    repeat = f". Repeat the request with the header Idempotency-Key: {g.chain_id}" if request.method == "POST" else ""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, reason + repeat, retry_after=seconds)


def _client_is_gone() -> bool:
    """Whether the other end of the connection is closed; looks without taking anything from it."""
    connection: socket.socket | None = request.environ.get("gunicorn.socket")
    if connection is None:
        return False
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
