"""Which requests are admitted by method, path and headers: a table of what browsers, pages and programs send."""

import logging
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


def judge(
    headers: dict[str, str],
    method: str = "POST",
    path: str = "/",
    server: ServerSettings = SERVER,
    host: str = "localhost:8001",
) -> Refusal | None:
    """``headers`` are sent in addition to a ``Host``."""
    lower = {name.lower(): value for name, value in headers.items()}
    return Gate(server, PAGES).judge(method, path, {"host": host, **lower})


class TestHosts:
    @pytest.mark.parametrize(
        "host",
        [
            "localhost", "localhost:8001", "LOCALHOST:1", "localhost.:8001", "localhost:",
            "127.0.0.1", "127.0.0.1:8001", "127.8.9.10:80", "[::1]", "[::1]:8001", "[0:0:0:0:0:0:0:1]",
        ],
    )  # fmt: skip
    def test_every_server_answers_to_loopback_names(self, host: str) -> None:
        assert judge({}, server=ServerSettings(), host=host) is None

    @pytest.mark.parametrize(
        "host",
        [
            "resonate-server:8001", "fancy.example", "FANCY.example.", "[fd00::1]:8001", "[FD00:0::1]",
            "with-port.example", "with-port.example:10", "public.example", "public.example:8001", "192.168.1.5:8001",
        ],
    )  # fmt: skip
    def test_a_server_answers_to_its_configured_names(self, host: str) -> None:
        assert judge({}, host=host) is None
        assert judge({}, server=ServerSettings(), host=host) is UNKNOWN_HOST

    @pytest.mark.parametrize(
        "host",
        [
            "evil.test", "evil.test:8001", "localhost.evil.test", "127.0.0.1.evil.test", "127.evil.test",
            "evil.localhost", "xresonate-server", "resonate-server.evil.test", "192.168.1.6", "128.0.0.1", "127.1",
            "0x7f.0.0.1", "2130706433", "[::2]", "[fd00::2]", "0.0.0.0:8001", "[::]:8001", "[::ffff:127.0.0.1]",
        ],
    )  # fmt: skip
    def test_a_server_answers_to_no_other_name(self, host: str) -> None:
        assert judge({}, host=host) is UNKNOWN_HOST

    @pytest.mark.parametrize(
        "host",
        [
            "", " ", "localhost, localhost", "localhost,evil.test", "localhost evil.test", "localhost:8001:8001",
            "localhost:80a", "user@localhost", "evil.test#@localhost", "localhost/", "localhost..", ".localhost", "::1",
            "[::1", "[127.0.0.1]", "[::1%25lo]", "[::1]x", "[:::1]", "lo\N{LATIN SMALL LETTER LONG S}t", "é.example",
            "localhost\t", "localhost:\N{ARABIC-INDIC DIGIT EIGHT}",
        ],
    )  # fmt: skip
    def test_an_invalid_host_is_refused_by_all(self, host: str) -> None:
        for server in (SERVER, ServerSettings(hosts=["*"])):
            assert judge({}, server=server, host=host) is MALFORMED_HOST

    def test_a_star_accepts_any_name(self) -> None:
        assert judge({}, server=ServerSettings(hosts=["*"]), host="whatever.example:1") is None

    def test_wildcard_addresses_are_not_names(self) -> None:
        """Through these addresses a browser reaches this machine without saying whose page sends the request."""
        assert judge({}, server=ServerSettings(bind="0.0.0.0"), host="0.0.0.0:8001") is UNKNOWN_HOST
        assert judge({}, server=ServerSettings(bind="::"), host="[::]:8001") is UNKNOWN_HOST

    def test_an_http_1_0_program_needs_no_host(self) -> None:
        assert Gate(SERVER).judge("GET", "/health", {}) is None
        assert Gate(SERVER).judge("GET", "/health", {"origin": "http://"}) is FOREIGN_ORIGIN

    @pytest.mark.parametrize(
        ("address", "expected"),
        [
            ("127.0.0.1", True), ("127.1.1.1", True), ("localhost", True), ("::1", True),
            ("0.0.0.0", False), ("::", False), ("", False), ("10.0.0.1", False), ("myhost", False),
        ],
    )  # fmt: skip
    def test_what_is_loopback(self, address: str, expected: bool) -> None:
        assert is_loopback(address) == expected


JSON = {"Content-Type": "application/json", "Content-Length": "2"}


class TestPrograms:
    @pytest.mark.parametrize(
        "headers",
        [
            JSON,
            {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "2"},  # curl -d
            {"Content-Type": "text/plain", "Transfer-Encoding": "chunked"},
            {"Content-Length": "2"},
            {"Authorization": "Bearer x", "User-Agent": "Mozilla/5.0", "Accept": "text/html"},
            {**JSON, "Sec-Fetch-Mode": "cors"},  # fetch of Node.js
        ],
    )
    def test_programs_need_no_special_headers(self, headers: dict[str, str]) -> None:
        assert judge(headers) is None


class TestOrigins:
    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            (OURS, "localhost:8001"), ("https://localhost:8001", "localhost:8001"), ("http://localhost", "localhost"),
            ("http://localhost.:8001", "localhost.:8001"), ("http://LocalHost:8001", "localhost:8001"),
            ("http://[::1]:8001", "[::1]:8001"), ("http://resonate-server:8001", "resonate-server:8001"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("site", [{}, {"Sec-Fetch-Site": "same-origin"}], ids=["", "same-origin"])
    def test_our_own_page_is_admitted(self, origin: str, host: str, site: dict[str, str]) -> None:
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
    def test_no_other_origin_is_admitted(self, origin: str) -> None:
        for site, method in product(({}, {"Sec-Fetch-Site": "same-origin"}), ("POST", "GET", "OPTIONS", "PUT")):
            assert judge({"Origin": origin, **JSON, **site}, method) is FOREIGN_ORIGIN

    @pytest.mark.parametrize("site", [{}, {"Sec-Fetch-Site": "cross-site"}], ids=["", "cross-site"])
    def test_a_listed_origin_is_admitted(self, site: dict[str, str]) -> None:
        assert judge({"Origin": LISTED, **JSON, **site}) is None
        assert judge({"Origin": LISTED, **site}, "OPTIONS") is None

    def test_a_star_admits_all_origins(self) -> None:
        server = ServerSettings(cors=Cors(allow_origins=["*"]))
        for origin in (THEIRS, "null"):
            assert judge({"Origin": origin, **JSON, "Sec-Fetch-Site": "cross-site"}, server=server) is None

    def test_a_listed_origin_may_not_use_another_host_name(self) -> None:
        assert judge({"Origin": LISTED, **JSON}, host="evil.test") is UNKNOWN_HOST


OF_A_LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


class TestSites:
    @pytest.mark.parametrize("site", ["same-origin", "none"])
    def test_our_page_and_the_user_are_admitted(self, site: str) -> None:
        assert judge({"Sec-Fetch-Site": site}, "GET", "/ui/api/chains") is None

    @pytest.mark.parametrize("site", ["cross-site", "same-site", "", "Same-Origin", "same-origin, none", "new"])
    def test_no_other_page_is_admitted_even_without_an_origin(self, site: str) -> None:
        modes = ("no-cors", "cors", "navigate", "websocket")
        paths = ("/poll/service-bar/x", "/health", "/ui/js/main.js", "/ui/api/events", "/nowhere")
        for mode, path in product(modes, paths):
            assert judge({"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}, "GET", path) is FOREIGN_SITE

    BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"

    @pytest.mark.parametrize("path", ["/poll/service-bar/x", "/backup"])
    def test_a_browser_without_fetch_metadata_gets_no_stream_and_no_backup(self, path: str) -> None:
        assert judge({"User-Agent": self.BROWSER}, "GET", path) is FOREIGN_SITE
        for agent in ("python-httpx/0.28", "node", "Go-http-client/1.1", "curl/8", ""):
            assert judge({"User-Agent": agent}, "GET", path) is None

    def test_its_other_requests_have_no_effect(self) -> None:
        assert judge({"User-Agent": self.BROWSER}, "GET", "/ui/api/chains") is None

    @pytest.mark.parametrize("own", [{"Origin": OURS}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": LISTED}])
    def test_an_admitted_page_may_open_a_stream(self, own: dict[str, str]) -> None:
        assert judge({"User-Agent": self.BROWSER, **own}, "GET", "/poll/service-bar/x") is None

    @pytest.mark.parametrize("path", PAGES)
    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_any_site_may_link_to_the_page(self, path: str, site: str) -> None:
        assert judge(OF_A_LINK | {"Sec-Fetch-Site": site}, "GET", path) is None

    @pytest.mark.parametrize(
        ("method", "path", "others"),
        [
            ("GET", "/ui/", {"Sec-Fetch-Dest": "iframe"}),
            ("GET", "/ui/", {"Sec-Fetch-Dest": "object"}),
            ("GET", "/ui/", {"Sec-Fetch-Mode": "no-cors"}),
            ("GET", "/ui/api/chains", {}),
            ("GET", "/poll/service-bar/x", {}),
            ("GET", "/metrics", {}),
            ("POST", "/", {}),
            ("POST", "/ui/", {}),
            ("HEAD", "/ui/", {}),
        ],
    )
    def test_no_site_may_link_elsewhere_or_frame_the_page(self, method: str, path: str, others: dict[str, str]) -> None:
        assert judge(OF_A_LINK | others, method, path) is FOREIGN_SITE

    def test_the_same_name_with_another_scheme_is_another_site(self) -> None:
        assert judge({"Origin": "https://localhost:8001", "Sec-Fetch-Site": "cross-site", **JSON}) is FOREIGN_SITE


class TestBodies:
    OF_A_PAGE = (
        {"Origin": OURS},
        {"Origin": LISTED},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-New": "?1"},
    )

    @pytest.mark.parametrize(
        "kind",
        [
            "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=application/json",
            "text/plain; application/json", "text/plain;+json", "text/plain, application/json", "text/json+json",
            "application/json, text/plain", "application/jsonp", "application/octet-stream", "", "json",
        ],
    )  # fmt: skip
    def test_a_page_declares_json(self, kind: str) -> None:
        for page, size in product(self.OF_A_PAGE, ({"Content-Length": "2"}, {"Transfer-Encoding": "chunked"})):
            assert judge(page | size | {"Content-Type": kind}) is UNDECLARED_BODY
            assert judge(page | size) is UNDECLARED_BODY

    @pytest.mark.parametrize("page", OF_A_PAGE, ids=str)
    @pytest.mark.parametrize(
        "kind",
        ["application/json", "Application/JSON; charset=utf-8", "application/json ;a=b", "application/x.y-z+json"],
    )
    def test_with_parameters_or_of_a_kind_of_its_own(self, page: dict[str, str], kind: str) -> None:
        assert judge(page | {"Content-Length": "2", "Content-Type": kind}) is None

    def test_a_request_without_a_body_needs_no_content_type(self) -> None:
        assert judge({"Origin": OURS, "Content-Length": "0"}) is None
        assert judge({"Sec-Fetch-Site": "same-origin"}, "GET") is None


class TestJournal:
    def test_each_reason_host_and_origin_is_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        journal = Journal()
        for _ in range(3):
            journal.log(UNKNOWN_HOST, {"host": "evil.test"})
            journal.log(FOREIGN_ORIGIN, {"host": "localhost", "origin": "http://evil.test"})
            journal.log(FOREIGN_ORIGIN, {"host": "localhost", "origin": "null"})

        assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
        assert "'evil.test'" in caplog.messages[0]
        assert "RESONATE_SERVER__HOSTS" in caplog.messages[0]
        assert "'http://evil.test'" in caplog.messages[1]

    def test_a_value_stays_on_one_line_and_is_truncated(self, caplog: pytest.LogCaptureFixture) -> None:
        Journal().log(MALFORMED_HOST, {"host": "a\r\nb\x1b[31m\u2028é" + "x" * 5_000})
        (message,) = caplog.messages
        assert message.isascii()
        assert message.isprintable()
        assert len(message) < 500

    def test_made_up_names_do_not_fill_log_or_memory(self, caplog: pytest.LogCaptureFixture) -> None:
        journal = Journal()
        for number in range(10 * MAX_LOGGED):
            journal.log(UNKNOWN_HOST, {"host": f"{number}.test"})
        assert len(caplog.messages) == MAX_LOGGED + 1
        assert "resonate_refused_total" in caplog.messages[-1]
        assert len(journal._logged) == MAX_LOGGED + 1
