"""Requests of pages of other sites, from a socket to every path: refused and counted, unless allowed (section 6)."""

import json
import socket

import pytest
from harness import http
from harness.basics import free_port
from harness.http import Response
from harness.metrics import refusals
from harness.server import FAR, ServerProcess
from integration.calls import request
from integration.servers import Start
from msgspec import Struct

API = [
    ("POST", "/"), ("GET", "/"), ("OPTIONS", "/"), ("PUT", "/"), ("GET", "/poll/service-bar/x"),
    ("GET", "/health"), ("GET", "/ready"), ("GET", "/ui"), ("GET", "/ui/"), ("GET", "/ui/js/main.js"),
    ("GET", "/ui/api/actions"), ("GET", "/ui/api/events"), ("GET", "/ui/api/chains"), ("GET", "/ui/api/chain?id=x"),
    ("POST", "/ui/api/actions/a"), ("GET", "/promises"), ("GET", "/backup"), ("POST", "/tasks/claim"),
    ("GET", "/schedules/x"), ("GET", "/nowhere"),
]  # fmt: skip
METRICS = [("GET", "/metrics"), ("GET", "/"), ("GET", "/nowhere")]


class Guarded(Struct):
    server: ServerProcess
    metrics_port: int

    def ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b"", *, metrics: bool = False
    ) -> Response:
        port = self.metrics_port if metrics else self.server.port
        return http.request(port, method, path, body or None, headers)


@pytest.fixture(scope="module")
def guarded(start_for_all: Start) -> Guarded:
    port = free_port()
    settings = {"RESONATE_OBSERVABILITY__METRICS_PORT": str(port), "RESONATE_SERVER__HOSTS": "resonate-server"}
    return Guarded(start_for_all(**settings), port)


def creating(id: str) -> bytes:
    return request("promise.create", id=id, timeoutAt=FAR, param={}, tags={})


def exists(guarded: Guarded, id: str) -> bool:
    return guarded.server.client().call("promise.get", id=id).status == 200


REFUSED = {
    "host": ({"Host": "evil.test"}, 421, b"RESONATE_SERVER__HOSTS"),
    "origin": ({"Origin": "null"}, 403, b"RESONATE_SERVER__CORS__ALLOW_ORIGINS"),
    "site": ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, 403, b""),
    "content_type": ({"Sec-Fetch-Site": "same-origin", "Content-Type": "text/plain"}, 415, b"application/json"),
}
"""For each reason that is counted: headers, status, and what the answer names."""


SURFACES = [(*each, False) for each in API] + [(*each, True) for each in METRICS]
"""Method, path, and whether it is a path of the metrics."""


@pytest.mark.parametrize("reason", REFUSED)
def test_every_surface_refuses_what_the_gate_refuses_and_counts_it(guarded: Guarded, reason: str) -> None:
    headers, status, named = REFUSED[reason]
    before = refusals(guarded.metrics_port)
    for method, path, metrics in SURFACES:
        got = guarded.ask(method, path, headers, b"{}", metrics=metrics)
        assert (got.status, named in got.body) == (status, True), (method, path)
        assert "access-control-allow-origin" not in got.headers
    assert (refusals(guarded.metrics_port) - before)[reason] == len(SURFACES)


def test_every_surface_prefers_the_host_in_an_absolute_target(guarded: Guarded) -> None:
    for method, path, metrics in SURFACES:
        for host, status in (("evil.test", 421), ("me@localhost", 400)):
            got = guarded.ask(method, f"http://{host}{path}", {"Host": "localhost"}, metrics=metrics)
            assert got.status == status, (method, path)
    got = guarded.ask("GET", f"http://localhost:{guarded.server.port}/health", {"Host": "evil.test"})
    assert got.status == 200


PAGE_OF_ANOTHER_SITE = {"Origin": "http://evil.test", "Content-Type": "application/json"}


@pytest.mark.parametrize("headers", [{"Host": "evil.test"}, PAGE_OF_ANOTHER_SITE], ids=["host", "origin"])
def test_a_refused_request_gets_a_protocol_answer_and_has_no_effect(
    guarded: Guarded, id: str, headers: dict[str, str]
) -> None:
    got = guarded.ask("POST", "/", headers, creating(id))
    envelope = json.loads(got.body)
    assert envelope["head"]["status"] == got.status >= 400
    assert isinstance(envelope["data"], str)
    assert not exists(guarded, id)


def test_a_request_of_a_program_is_unaffected_and_its_remembered_head_admits_no_other_host(guarded: Guarded) -> None:
    """The gate remembers heads, both good and bad."""
    for number, headers in enumerate(
        (
            {},
            {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "curl/8"},
            {"Content-Type": "application/json", "Host": "resonate-server:8001"},
            {"Content-Type": "application/json", "Host": "[::1]:8001", "X-Unknown": "leaves the lane"},
            {"Content-Type": "application/json", "Sec-Fetch-Mode": "cors"},
        )
    ):
        for _ in range(2):
            assert guarded.ask("POST", "/", headers, creating(f"programs-{number}")).status == 200
            assert guarded.ask("POST", "/", headers | {"Host": "evil.test"}, b"{}").status == 421
        assert exists(guarded, f"programs-{number}")


def test_a_refusal_is_logged_once_and_on_one_line(guarded: Guarded) -> None:
    for _ in range(3):
        guarded.ask("GET", "/health", {"Host": "logged.test", "Origin": "http://logged.test/\xe9"})
    (line,) = [line for line in guarded.server.output().splitlines() if "logged.test" in line]
    assert "WARNING refused a request for host 'logged.test' from origin 'http://logged.test/\\" in line
    assert line.isascii()


# ── allowed origins ──

ALLOWED, OTHER = "https://ours.example", "https://theirs.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}


@pytest.fixture(scope="module")
def listed(start_for_all: Start) -> ServerProcess:
    return start_for_all(RESONATE_SERVER__CORS__ALLOW_ORIGINS=f"https://first.example, {ALLOWED}")


@pytest.fixture(scope="module")
def permissive(start_for_all: Start) -> ServerProcess:
    return start_for_all(RESONATE_SERVER__CORS__ALLOW_ORIGINS="*")


def answer(server: ServerProcess, method: str, path: str, origin: str) -> Response:
    headers = {**(PREFLIGHT if method == "OPTIONS" else {}), "Origin": origin}
    return http.request(server.port, method, path, headers=headers)


@pytest.mark.parametrize("path", ["/", "/poll/g/w"])
def test_a_preflight_of_a_listed_origin_is_granted(listed: ServerProcess, path: str) -> None:
    response = answer(listed, "OPTIONS", path, ALLOWED)

    def named(field: str) -> set[str]:
        return set(response.headers[f"Access-Control-Allow-{field}"].replace(" ", "").split(","))

    assert response.status in (200, 204)
    assert (named("Origin"), response.headers["Vary"]) == ({ALLOWED}, "Origin")
    assert named("Methods") == {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
    assert {name.lower() for name in named("Headers")} == {"origin", "content-length", "content-type", "authorization"}


def test_an_answer_to_a_listed_origin_names_it_alone_and_says_what_varies(listed: ServerProcess) -> None:
    for method, path, status in (
        ("POST", "/", 400),
        ("GET", "/poll/g/w", 200),
        ("GET", "/x", 404),
        ("GET", "/ui/", 200),
    ):
        response = answer(listed, method, path, ALLOWED)
        assert response.status == status
        assert response.headers.get_all("Access-Control-Allow-Origin") == [ALLOWED]
    assert response.headers.get_all("Vary") == ["Accept-Encoding", "Origin"]


def test_a_star_admits_every_origin(permissive: ServerProcess) -> None:
    for method in ("OPTIONS", "POST"):
        response = answer(permissive, method, "/", OTHER)
        assert response.headers["Access-Control-Allow-Origin"] in (OTHER, "*")


def test_an_origin_that_no_browser_sends_is_refused_even_then(permissive: ServerProcess) -> None:
    """It could not be repeated in an answer."""
    with socket.create_connection(("127.0.0.1", permissive.port), timeout=10) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://\xff\r\n\r\n")
        assert connection.recv(4_096).split()[1] == b"403"
