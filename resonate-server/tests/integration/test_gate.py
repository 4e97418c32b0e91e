"""Requests as pages of other sites send them, from a socket to every path: refused, counted and without effect.
``unit/http/test_gate.py`` has the full table of such requests; in ``tests/ui`` a real browser sends them."""

import json
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import pytest
from harness.basics import free_port
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


class Got(Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: bytes


class Guarded:
    """A server and its metrics."""

    def __init__(self, server: ServerProcess, metrics_port: int) -> None:
        self.server = server
        self.metrics_port = metrics_port

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"", *, metrics: bool = False) -> Got:
        """Send ``headers`` in addition to only a ``Host`` and a length."""
        port = self.metrics_port if metrics else self.server.port
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        usual = {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(body))}
        for name, value in (usual | headers).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        got = Got(response.status, {name.lower(): text for name, text in response.getheaders()}, response.read())
        connection.close()
        return got


@pytest.fixture(scope="module")
def guarded(start_for_all: Start) -> Guarded:
    port = free_port()
    settings = {"RESONATE_OBSERVABILITY__METRICS_PORT": str(port), "RESONATE_SERVER__HOSTS": "resonate-server"}
    return Guarded(start_for_all(**settings), port)


@pytest.fixture
def counted(guarded: Guarded) -> Callable[[], Counter[str]]:
    """Return what has been counted since the test began."""
    before = refusals(guarded.metrics_port)
    return lambda: refusals(guarded.metrics_port) - before


def of_all_surfaces(test: Any) -> Any:
    """Run a test once for each path of the API and of the metrics."""
    surfaces = [(*each, False) for each in API] + [(*each, True) for each in METRICS]
    ids = [f"{'metrics: ' if metrics else ''}{method} {path}" for method, path, metrics in surfaces]
    return pytest.mark.parametrize(("method", "path", "metrics"), surfaces, ids=ids)(test)


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


class TestEverySurface:
    @of_all_surfaces
    @pytest.mark.parametrize("reason", REFUSED)
    def test_refuses_what_the_gate_refuses(
        self, guarded: Guarded, counted: Callable[[], Counter[str]], method: str, path: str, metrics: bool, reason: str
    ) -> None:
        headers, status, named = REFUSED[reason]
        got = guarded.ask(method, path, headers, b"{}", metrics=metrics)
        assert got.status == status
        assert named in got.body
        assert "access-control-allow-origin" not in got.headers
        assert counted()[reason] == 1

    @of_all_surfaces
    def test_prefers_the_host_in_an_absolute_target(
        self, guarded: Guarded, method: str, path: str, metrics: bool
    ) -> None:
        foreign = guarded.ask(method, f"http://evil.test{path}", {"Host": "localhost"}, metrics=metrics)
        malformed = guarded.ask(method, f"http://me@localhost{path}", {"Host": "localhost"}, metrics=metrics)
        assert (foreign.status, malformed.status) == (421, 400)

    def test_accepts_a_target_that_names_it_whatever_the_host_header_says(self, guarded: Guarded) -> None:
        got = guarded.ask("GET", f"http://localhost:{guarded.server.port}/health", {"Host": "evil.test"})
        assert got.status == 200


class TestRequests:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "evil.test"},
            {"Origin": "http://evil.test", "Content-Type": "application/json"},
            {"Sec-Fetch-Site": "same-site", "Content-Type": "application/json"},
            {"Sec-Fetch-Mode": "no-cors", "Content-Type": "text/plain"},
        ],
        ids=lambda headers: next(iter(headers)),
    )
    def test_a_refused_request_gets_a_protocol_answer_and_has_no_effect(
        self, guarded: Guarded, id: str, headers: dict[str, str]
    ) -> None:
        got = guarded.ask("POST", "/", headers, creating(id))
        envelope = json.loads(got.body)
        assert envelope["head"]["status"] == got.status >= 400
        assert isinstance(envelope["data"], str)
        assert not exists(guarded, id)

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "curl/8"},
            {"Content-Type": "application/json", "Host": "resonate-server:8001"},
            {"Content-Type": "application/json", "Host": "LOCALHOST."},
            {"Content-Type": "application/json", "Host": "[::1]:8001", "X-Unknown": "leaves the lane"},
            {"Content-Type": "application/json", "Sec-Fetch-Mode": "cors"},
        ],
    )
    def test_a_request_of_a_program_is_unaffected(self, guarded: Guarded, id: str, headers: dict[str, str]) -> None:
        assert guarded.ask("POST", "/", headers, creating(id)).status == 200
        assert exists(guarded, id)

    def test_a_remembered_head_does_not_admit_another_host(self, guarded: Guarded, id: str) -> None:
        """The gate remembers heads, both good and bad."""
        for _ in range(2):
            assert guarded.ask("POST", "/", {}, creating(id)).status == 200
            assert guarded.ask("POST", "/", {"Host": "evil.test"}, creating(id)).status == 421


def test_a_refusal_is_logged_once_and_on_one_line(guarded: Guarded) -> None:
    for _ in range(3):
        guarded.ask("GET", "/health", {"Host": "logged.test", "Origin": "http://logged.test/\xe9"})
    (line,) = [line for line in guarded.server.output().splitlines() if "logged.test" in line]
    assert "WARNING refused a request for host 'logged.test' from origin 'http://logged.test/\\" in line
    assert line.isascii()
