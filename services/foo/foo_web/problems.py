"""Every error that foo answers, as RFC 9457 describes problems."""

from http import HTTPStatus

import msgspec
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, InternalServerError


class Problem(Exception):
    """Ends a request with an error. `retry_after` (seconds): the same request may be repeated then."""

    def __init__(self, status: HTTPStatus, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after


class _Document(msgspec.Struct, omit_defaults=True):
    title: str
    status: int
    detail: str
    id: str | None = None


def answer_problems(app: Flask) -> None:
    """Make problems of everything that is raised while a request is handled."""

    @app.errorhandler(Problem)
    def own(problem: Problem) -> Response:
        if problem.retry_after is None:
            return _response(problem.status, problem.detail)
        # Repeated with this key, a request joins the chain if it has begun.
        repeat = f". Repeat the request with the header Idempotency-Key: {g.chain_id}" if "chain_id" in g else ""
        response = _response(problem.status, problem.detail + (repeat if request.method == "POST" else ""))
        response.headers["Retry-After"] = str(problem.retry_after)
        return response

    @app.errorhandler(HTTPException)
    def from_framework(error: HTTPException) -> Response:
        response = _response(HTTPStatus(error.code or 500), error.description or "")
        for name, value in error.get_headers():
            response.headers.setdefault(name, value)  # a 405 tells the methods that are allowed
        return response

    @app.errorhandler(Exception)
    def unforeseen(error: Exception) -> Response:
        app.logger.error("unforeseen error", exc_info=error)
        return from_framework(InternalServerError())


def _response(status: HTTPStatus, detail: str) -> Response:
    document = _Document(status.phrase, status.value, detail, id=g.get("chain_id"))
    return Response(msgspec.json.encode(document) + b"\n", status.value, content_type="application/problem+json")
