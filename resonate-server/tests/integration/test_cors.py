"""Requests from pages of other origins (protocol section 6)."""

import socket
from http.client import HTTPConnection, HTTPResponse

import pytest
from harness.server import ServerProcess
from integration.servers import Start

OURS, THEIRS = "https://ours.example", "https://theirs.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}


@pytest.fixture(scope="module")
def listed(start_for_all: Start) -> ServerProcess:
    return start_for_all(RESONATE_SERVER__CORS__ALLOW_ORIGINS=f"https://first.example, {OURS}")


@pytest.fixture(scope="module")
def permissive(start_for_all: Start) -> ServerProcess:
    return start_for_all(RESONATE_SERVER__CORS__ALLOW_ORIGINS="*")


def ask(server: ServerProcess, method: str, path: str, origin: str | None) -> HTTPResponse:
    headers = (PREFLIGHT if method == "OPTIONS" else {}) | ({"Origin": origin} if origin else {})
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    connection.close()
    return response


@pytest.mark.parametrize("path", ["/", "/poll/g/w"])
def test_a_preflight_of_a_listed_origin_is_granted(listed: ServerProcess, path: str) -> None:
    response = ask(listed, "OPTIONS", path, OURS)

    assert response.status in (200, 204)
    assert response.headers["Access-Control-Allow-Origin"] == OURS
    assert response.headers["Vary"] == "Origin"
    methods = response.headers["Access-Control-Allow-Methods"].replace(" ", "").split(",")
    assert set(methods) == {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
    headers = response.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
    assert set(headers) == {"origin", "content-length", "content-type", "authorization"}


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/", 400), ("GET", "/poll/g/w", 200), ("GET", "/x", 404)]
)
def test_an_answer_to_a_listed_origin_names_it_alone(
    listed: ServerProcess, method: str, path: str, status: int
) -> None:
    response = ask(listed, method, path, OURS)
    assert response.status == status
    assert response.headers.get_all("Access-Control-Allow-Origin") == [OURS]


@pytest.mark.parametrize(
    "origin", [THEIRS, "null", OURS.upper(), f"{OURS}.evil.example", "https://", f"{OURS}:1", None]
)
def test_any_other_origin_is_not_named(listed: ServerProcess, origin: str | None) -> None:
    for method, path in (("OPTIONS", "/"), ("POST", "/"), ("GET", "/poll/g/w")):
        response = ask(listed, method, path, origin)
        assert response.headers["Access-Control-Allow-Origin"] is None


def test_a_star_admits_every_origin(permissive: ServerProcess) -> None:
    for method in ("OPTIONS", "POST"):
        response = ask(permissive, method, "/", THEIRS)
        assert response.headers["Access-Control-Allow-Origin"] in (THEIRS, "*")


def test_an_origin_that_no_browser_sends_is_refused_even_then(permissive: ServerProcess) -> None:
    """It could not be repeated in an answer."""
    with socket.create_connection(("127.0.0.1", permissive.port), timeout=10) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://\xff\r\n\r\n")
        assert connection.recv(4_096).split()[1] == b"403"
