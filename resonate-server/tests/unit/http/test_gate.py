"""Which requests are admitted by method, path and headers: a table of what browsers, pages and programs send."""

import logging
from collections.abc import Iterable
from itertools import product

import pytest

from resonate_server.config import Cors, ServerSettings
from resonate_server.http.gate import (
    FOREIGN_ORIGIN,
    FOREIGN_SITE,
    MALFORMED_HOST,
    MAX_LOGGED,
    UNDECLARED_BODY,
    UNKNOWN_HOST,
    Gate,
    Journal,
    Refusal,
    is_loopback,
)

OURS, THEIRS, LISTED = "http://localhost:8001", "http://localhost:3000", "https://listed.example"
PAGES = ("/", "/ui/")
SERVER = ServerSettings(
    bind="192.168.1.5",
    hosts=["resonate-server", "Fancy.Example.", "fd00::1", "with-port.example:9"],
    url="https://public.example:444/resonate",
    cors=Cors(allow_origins=[LISTED]),
)

type Headers = dict[str, str]


def judge(
    headers: Headers, method: str = "POST", path: str = "/", server: ServerSettings = SERVER, host: str = OURS[7:]
) -> Refusal | None:
    """``headers`` are sent in addition to a ``Host``."""
    lower = {name.lower(): value for name, value in headers.items()}
    return Gate(server, PAGES).judge(method, path, {"host": host, **lower})


LOOPBACK = (
    "localhost", "localhost:8001", "LOCALHOST:1", "localhost.:8001", "localhost:",
    "127.0.0.1", "127.0.0.1:8001", "127.8.9.10:80", "[::1]", "[::1]:8001", "[0:0:0:0:0:0:0:1]",
)  # fmt: skip
CONFIGURED = (
    "resonate-server:8001", "fancy.example", "FANCY.example.", "[fd00::1]:8001", "[FD00:0::1]",
    "with-port.example", "with-port.example:10", "public.example", "public.example:8001", "192.168.1.5:8001",
)  # fmt: skip
UNKNOWN = (
    "evil.test", "evil.test:8001", "localhost.evil.test", "127.0.0.1.evil.test", "127.evil.test",
    "evil.localhost", "xresonate-server", "resonate-server.evil.test", "192.168.1.6", "128.0.0.1", "127.1",
    "0x7f.0.0.1", "2130706433", "[::2]", "[fd00::2]", "0.0.0.0:8001", "[::]:8001", "[::ffff:127.0.0.1]",
)  # fmt: skip
MALFORMED = (
    "", " ", "localhost, localhost", "localhost,evil.test", "localhost evil.test", "localhost:8001:8001",
    "localhost:80a", "user@localhost", "evil.test#@localhost", "localhost/", "localhost..", ".localhost", "::1",
    "[::1", "[127.0.0.1]", "[::1%25lo]", "[::1]x", "[:::1]", "lo\N{LATIN SMALL LETTER LONG S}t", "é.example",
    "localhost\t", "localhost:\N{ARABIC-INDIC DIGIT EIGHT}",
)  # fmt: skip
DEFAULT, ANY_HOST = ServerSettings(), ServerSettings(hosts=["*"])


@pytest.mark.parametrize(
    ("verdict", "hosts", "servers"),
    [
        pytest.param(None, LOOPBACK, (SERVER, DEFAULT), id="loopback"),
        pytest.param(None, CONFIGURED, (SERVER,), id="configured"),
        pytest.param(UNKNOWN_HOST, CONFIGURED, (DEFAULT,), id="of another server"),
        pytest.param(UNKNOWN_HOST, UNKNOWN, (SERVER,), id="unknown"),
        pytest.param(MALFORMED_HOST, MALFORMED, (SERVER, ANY_HOST), id="malformed"),
        pytest.param(None, ["whatever.example:1"], (ANY_HOST,), id="any"),
        # By these a browser reaches this machine without saying whose page sends the request.
        pytest.param(UNKNOWN_HOST, ["0.0.0.0:8001"], (ServerSettings(bind="0.0.0.0"),), id="wildcard"),
        pytest.param(UNKNOWN_HOST, ["[::]:8001"], (ServerSettings(bind="::"),), id="wildcard of IPv6"),
    ],
)
def test_a_server_answers_to_its_names(
    verdict: Refusal | None, hosts: Iterable[str], servers: tuple[ServerSettings, ...]
) -> None:
    for host, server in product(hosts, servers):
        assert judge({}, server=server, host=host) is verdict, host


def test_an_http_1_0_program_needs_no_host() -> None:
    assert Gate(SERVER).judge("GET", "/health", {}) is None
    assert Gate(SERVER).judge("GET", "/health", {"origin": "http://"}) is FOREIGN_ORIGIN


def test_what_is_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.1.1", "localhost", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "", "10.0.0.1", "myhost")))


JSON = {"Content-Type": "application/json", "Content-Length": "2"}
OWN_SITE, OTHER_SITE = {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "cross-site"}


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (OURS, "localhost:8001"), ("https://localhost:8001", "localhost:8001"), ("http://localhost", "localhost"),
        ("http://localhost.:8001", "localhost.:8001"), ("http://LocalHost:8001", "localhost:8001"),
        ("http://[::1]:8001", "[::1]:8001"), ("http://resonate-server:8001", "resonate-server:8001"),
    ],
)  # fmt: skip
def test_our_own_page_is_admitted(origin: str, host: str) -> None:
    for site in ({}, OWN_SITE):
        assert judge({"Origin": origin, **JSON, **site}, host=host) is None


@pytest.mark.parametrize(
    "origin",
    [
        THEIRS, "http://127.0.0.1:8001", "http://localhost", "http://evil.test", "http://evil.test:8001", "null",
        "", "http://localhost:8001/", "http://localhost:8001.evil.test", "http://x@localhost:8001",
        "localhost:8001", "ftp://localhost:8001", "chrome-extension://localhost:8001", f"{OURS}, {OURS}",
        f"{OURS} {OURS}", LISTED.upper(), f"{LISTED}:443", f"{LISTED}.evil.test", "file://",
    ],
)  # fmt: skip
def test_no_other_origin_is_admitted(origin: str) -> None:
    for site, method in product(({}, OWN_SITE), ("POST", "OPTIONS", "PUT")):
        assert judge({"Origin": origin, **JSON, **site}, method) is FOREIGN_ORIGIN
    assert judge({"Origin": origin}, "GET") is FOREIGN_ORIGIN
    for path in (STREAM, "/backup"):
        assert judge({"Origin": origin, **OWN_SITE}, "GET", path) is FOREIGN_ORIGIN


def test_behind_a_proxy_that_changes_the_host_our_page_can_read_but_not_write() -> None:
    proxied = {"Origin": "https://proxy.example", **OWN_SITE}
    assert judge(proxied, "GET", "/ui/js/main.js") is None
    assert judge({**proxied, **JSON}, "POST") is FOREIGN_ORIGIN


def test_listed_origins_are_admitted_if_they_use_our_name() -> None:
    every = ServerSettings(cors=Cors(allow_origins=["*"]))
    for site, method in product(({}, OTHER_SITE), ("POST", "OPTIONS")):
        assert judge({"Origin": LISTED, **JSON, **site}, method) is None
    for origin in (THEIRS, "null"):
        assert judge({"Origin": origin, **JSON, **OTHER_SITE}, server=every) is None
    assert judge({"Origin": LISTED, **JSON}, host="evil.test") is UNKNOWN_HOST


BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"}
LINK = OTHER_SITE | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
STREAM, API = "/poll/service-bar/x", "/ui/api/chains"
AGENTS = ("python-httpx/0.28", "node", "Go-http-client/1.1", "curl/8", "")

type Requests = Iterable[tuple[str, str, Headers]]

REQUESTS: dict[str, tuple[Refusal | None, Requests]] = {
    "programs send what they like": (
        None,
        [
            ("POST", "/", JSON),
            ("POST", "/", {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "2"}),  # curl -d
            ("POST", "/", {"Content-Type": "text/plain", "Transfer-Encoding": "chunked"}),
            ("POST", "/", {"Content-Length": "2"}),
            ("POST", "/", {"Authorization": "Bearer x", "User-Agent": "Mozilla/5.0", "Accept": "text/html"}),
            ("POST", "/", {**JSON, "Sec-Fetch-Mode": "cors"}),  # fetch of Node.js
            *(("GET", path, {"User-Agent": agent}) for path in (STREAM, "/backup") for agent in AGENTS),
        ],
    ),
    "our page and the user are admitted": (
        None,
        [("GET", API, {"Sec-Fetch-Site": site}) for site in ("same-origin", "none")],
    ),
    "no other page is, even without an origin": (
        FOREIGN_SITE,
        [
            ("GET", path, {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode})
            for site in ("cross-site", "same-site", "", "Same-Origin", "same-origin, none", "new")
            for mode in ("no-cors", "cors", "navigate", "websocket")
            for path in (STREAM, "/health", "/ui/js/main.js", "/ui/api/events", "/nowhere")
        ],
    ),
    "a browser without fetch metadata gets no stream and no backup": (
        FOREIGN_SITE,
        [("GET", path, BROWSER) for path in (STREAM, "/backup")],
    ),
    "unless the page is admitted, or the request has no effect": (
        None,
        [
            ("GET", API, BROWSER),
            *(("GET", STREAM, BROWSER | own) for own in ({"Origin": OURS}, OWN_SITE, {"Origin": LISTED})),
        ],
    ),
    "any site may link to the page": (
        None,
        [("GET", path, LINK | {"Sec-Fetch-Site": site}) for path in PAGES for site in ("cross-site", "same-site")],
    ),
    "no site may link elsewhere or frame the page": (
        FOREIGN_SITE,
        [
            *(("GET", "/ui/", LINK | {"Sec-Fetch-Dest": other}) for other in ("iframe", "object")),
            ("GET", "/ui/", LINK | {"Sec-Fetch-Mode": "no-cors"}),
            *(("GET", path, LINK) for path in (API, STREAM, "/metrics")),
            *(("POST", path, LINK) for path in PAGES),
            ("HEAD", "/ui/", LINK),
        ],
    ),
    "the same name with another scheme is another site": (
        FOREIGN_SITE,
        [("POST", "/", {"Origin": "https://localhost:8001", **OTHER_SITE, **JSON})],
    ),
    "a request without a body needs no content type": (
        None,
        [("POST", "/", {"Origin": OURS, "Content-Length": "0"}), ("GET", "/", OWN_SITE)],
    ),
}


@pytest.mark.parametrize(("verdict", "requests"), REQUESTS.values(), ids=REQUESTS)
def test_requests(verdict: Refusal | None, requests: Requests) -> None:
    for method, path, headers in requests:
        assert judge(headers, method, path) is verdict, (method, path, headers)


OF_A_PAGE = ({"Origin": OURS}, {"Origin": LISTED}, OWN_SITE, {"Sec-Fetch-Mode": "cors"}, {"Sec-Fetch-New": "?1"})


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=application/json",
        "text/plain; application/json", "text/plain;+json", "text/plain, application/json", "text/json+json",
        "application/json, text/plain", "application/jsonp", "application/octet-stream", "", "json",
    ],
)  # fmt: skip
def test_a_page_declares_json(kind: str) -> None:
    for page, size in product(OF_A_PAGE, ({"Content-Length": "2"}, {"Transfer-Encoding": "chunked"})):
        assert judge(page | size | {"Content-Type": kind}) is UNDECLARED_BODY
        assert judge(page | size) is UNDECLARED_BODY


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/json ;a=b", "application/x.y-z+json"]
)
def test_with_parameters_or_of_a_kind_of_its_own(kind: str) -> None:
    for page in OF_A_PAGE:
        assert judge(page | {"Content-Length": "2", "Content-Type": kind}) is None


def test_refusals_are_logged_once_for_each_reason_host_and_origin(caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    for _ in range(3):
        journal.log(UNKNOWN_HOST, {"host": "evil.test"})
        journal.log(FOREIGN_ORIGIN, {"host": "localhost", "origin": "http://evil.test"})
        journal.log(FOREIGN_ORIGIN, {"host": "localhost", "origin": "null"})

    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
    assert "'evil.test'" in caplog.messages[0]
    assert "RESONATE_SERVER__HOSTS" in caplog.messages[0]
    assert "'http://evil.test'" in caplog.messages[1]


def test_made_up_names_do_not_fill_log_or_memory_and_stay_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    journal.log(MALFORMED_HOST, {"host": "a\r\nb\x1b[31m\u2028é" + "x" * 5_000})
    assert caplog.messages[0].isascii() and caplog.messages[0].isprintable() and len(caplog.messages[0]) < 500
    for number in range(10 * MAX_LOGGED):
        journal.log(UNKNOWN_HOST, {"host": f"{number}.test"})
    assert len(caplog.messages) == MAX_LOGGED + 1
    assert "resonate_refused_total" in caplog.messages[-1]
    assert len(journal._logged) == MAX_LOGGED + 1
