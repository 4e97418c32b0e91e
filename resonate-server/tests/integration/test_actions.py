"""The actions that the live page offers come from one address, which may answer anything, or nothing at all."""

import gzip
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from typing import Any

import pytest
from click.testing import CliRunner
from harness.adapter import Adapter, Reply, offer, running_adapter
from harness.http import Response
from harness.page import Page
from harness.server import ServerProcess
from integration.servers import Start

from resonate_server import cli
from resonate_server.http.ui.actions import MAX_ANSWER_BYTES, TIMEOUT_S

TOKEN = "a-token-of-the-server"
ACTION: dict[str, Any] = {
    "name": "order",
    "label": "Order",
    "fields": [{"name": "size", "label": "Size", "type": "number", "default": 2, "min": 1, "max": 9.5, "unit": "cm"}],
    "commands": [],
    "workers": None,
    "note": "What <you> order.",
}
NUMBER: dict[str, Any] = {"name": "a", "label": "a", "type": "number"}
EACH: dict[str, Any] = {"name": "wake", "label": "Wake", "workers": "service-", "note": ""}
NOTHING = {"actions": [], "trouble": ""}
MARGIN_S = 15
"""Extra time for a busy machine."""


@pytest.fixture(scope="module")
def address() -> Iterator[Adapter]:
    with running_adapter() as adapter:
        yield adapter


@pytest.fixture
def adapter(address: Adapter) -> Adapter:
    address.begin_anew()
    return address


@pytest.fixture(scope="module")
def guarded(address: Adapter, start_for_all: Start) -> ServerProcess:
    settings = {"RESONATE_AUTH__TOKEN": TOKEN, "RESONATE_SERVER__CLIENT_TIMEOUT": "4000"}
    return start_for_all(**settings, RESONATE_UI__ACTIONS_URL=address.url)


@pytest.fixture
def page(guarded: ServerProcess) -> Page:
    return Page(guarded.port, TOKEN)


def shown(page: Page) -> Any:
    got = page.get("/ui/api/actions")
    assert got.status == 200
    return got.json


def trouble(page: Page) -> str:
    """Return the trouble shown, and check that nothing else is shown."""
    answer = shown(page)
    assert answer["actions"] == []
    assert answer["trouble"]
    return str(answer["trouble"])


def click(page: Page, **fields: Any) -> Response:
    return page.act(json.dumps({"fields": fields}).encode(), "order")


def test_without_the_setting_nothing_is_offered_and_a_click_is_answered_with_the_setting(server: ServerProcess) -> None:
    page = Page(server.port)
    assert shown(page) == NOTHING
    clicked = page.act()
    assert clicked.status == 404
    assert "RESONATE_UI__ACTIONS_URL" in clicked.json["error"]


def test_nobody_sees_or_does_anything_without_a_token(guarded: ServerProcess, adapter: Adapter) -> None:
    page = Page(guarded.port)
    assert [page.get("/ui/api/actions").status, page.act().status, adapter.asked] == [401, 401, []]


class TestTheList:
    def test_actions_are_shown_as_the_address_lists_them_without_unknown_members(
        self, page: Page, adapter: Adapter
    ) -> None:
        """The list is read again each time, and may arrive in pieces."""
        assert shown(page) == NOTHING
        commands = [{"label": "Kill", "text": "kill -9 $$"}]
        breaking = {**EACH, "label": "<b>", "fields": [], "commands": commands, "workers": None}
        each = {**EACH, "fields": [], "commands": []}
        listed = offer({**ACTION, "onclick": "alert(1)"}, breaking, each)
        adapter.replies["GET"] = Reply(listed.body, pause=0.05, pieces=7)
        assert shown(page) == {"actions": [ACTION, breaking, each], "trouble": ""}

    @pytest.mark.parametrize(
        "reply",
        [
            *[Reply(body) for body in (b"", b"<html>", b"\xff", b"[]", b"null", b"[" * 50_000)],
            Reply(b'{"actions": {}}'),
            Reply(gzip.compress(offer().body, mtime=0), headers={"Content-Encoding": "gzip"}),
            *[Reply(body) for body in (b" " * (MAX_ANSWER_BYTES + 1), b"a" * 2**23)],
            *[Reply(offer().body, status=status) for status in (500, 204)],
            Reply(offer().body, headers={"Content-Length": "100"}),
            offer(*[ACTION] * 17),
            offer({**ACTION, "fields": ACTION["fields"] * 9}),
            *[offer({**ACTION, "name": name}) for name in ("../foo", "a\n", 1)],
            *[offer({**ACTION, "label": label}) for label in ("x" * 101, ["x"])],
            offer({**ACTION, "fields": [NUMBER | {"default": {"a": 1}}]}),
            offer({**ACTION, "fields": [NUMBER | {"max": "9"}]}),
            offer({**ACTION, "commands": [{"label": "a", "text": "x" * 501}]}),
            offer({"label": "no name"}),
            *[offer({**EACH, "workers": workers}) for workers in (True, "x" * 101)],
            offer({**EACH, "note": "x" * 301}),
            offer({**EACH, "fields": ACTION["fields"]}),
            offer({**EACH, "commands": [{"label": "a", "text": "a"}]}),
        ],
        ids=lambda reply: f"{reply.status} {reply.body[:40]!r}",
    )
    def test_an_unusable_list_is_not_shown(self, page: Page, adapter: Adapter, reply: Reply) -> None:
        adapter.replies["GET"] = reply
        assert adapter.url in trouble(page)
        adapter.replies["GET"] = offer(ACTION)
        assert shown(page)["actions"] == [ACTION]

    def test_redirects_are_not_followed(self, page: Page, adapter: Adapter) -> None:
        adapter.replies["GET"] = Reply(status=302, headers={"Location": f"{adapter.url}/elsewhere"})
        assert "302" in trouble(page)
        assert [asked.path for asked in adapter.asked] == ["/actions"]

    def test_a_slow_address_is_not_waited_for(self, page: Page, adapter: Adapter) -> None:
        adapter.replies["GET"] = Reply(offer(ACTION).body, pause=0.3, pieces=100)
        begun = time.monotonic()
        assert "did not answer within" in trouble(page)
        assert time.monotonic() - begun < TIMEOUT_S + MARGIN_S

    def test_many_readers_at_once_cause_few_requests_to_the_address(self, page: Page, adapter: Adapter) -> None:
        adapter.replies["GET"] = Reply(offer(ACTION).body, pause=1)
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: shown(page), range(20)))
        assert answers == [{"actions": [ACTION], "trouble": ""}] * 20
        assert len(adapter.asked) < 5

    def test_an_unreachable_address_is_reported(self, start: Start) -> None:
        page = Page(start(RESONATE_UI__ACTIONS_URL="http://127.0.0.1:9/actions").port)
        assert "does not answer" in trouble(page)
        assert "does not answer" in page.act().json["error"]


class TestAClick:
    def test_a_click_is_forwarded_with_its_fields_and_answered_with_an_id(self, page: Page, adapter: Adapter) -> None:
        got = click(page, size=2.5, whole=3, name="Zoë")
        assert (got.status, got.json) == (202, {"id": "begun"})
        (asked,) = adapter.asked
        assert (asked.method, asked.path) == ("POST", "/actions/order")
        assert json.loads(asked.body) == {"size": 2.5, "whole": 3, "name": "Zoë"}

    def test_a_click_on_a_worker_names_the_worker(self, page: Page, adapter: Adapter) -> None:
        address = "poll://any@service-%C3%A4/1%2F2"
        got = page.act(json.dumps({"fields": {"worker": "none", "size": 1}, "worker": address}).encode(), "wake")
        assert (got.status, got.json) == (202, {"id": "begun"})
        assert json.loads(adapter.asked[0].body) == {"worker": address, "size": 1}

    def test_neither_token_nor_cookie_is_forwarded(self, page: Page, adapter: Adapter) -> None:
        adapter.replies["POST"].headers["Set-Cookie"] = "a=b"
        page.act(b"{}", "order", Cookie="c=d", X_Else="e")
        click(page)
        shown(page)
        expected = {"host", "accept", "accept-encoding", "user-agent", "content-length", "content-type"}
        assert len(adapter.posted) == 2
        assert {name for asked in adapter.asked for name in asked.headers} <= expected

    def test_a_refusal_is_shown_in_the_words_of_the_address(self, page: Page, adapter: Adapter) -> None:
        adapter.replies["POST"] = Reply(b'{"detail": "size is at most 9"}', 422)
        got = click(page, size=10)
        assert (got.status, got.json) == (400, {"error": "size is at most 9"})

    @pytest.mark.parametrize(("status", "seen"), [(401, 400), (403, 400), (404, 400), (500, 503), (302, 503)])
    def test_a_status_of_the_address_is_not_passed_off_as_the_server_s_own(
        self, page: Page, adapter: Adapter, status: int, seen: int
    ) -> None:
        adapter.replies["POST"] = Reply(b"<html>", status, {"Location": "/elsewhere"})
        got = click(page)
        assert (got.status, got.json) == (seen, {"error": f"it was refused with status {status}"})
        assert len(adapter.asked) == 1

    @pytest.mark.parametrize("body", [b"", b"{}", b'{"id": ""}', b'{"id": 1}', b"[" * 50_000, b"\xff", b"a" * 100_000])
    def test_an_answer_without_an_id_is_an_error(self, page: Page, adapter: Adapter, body: bytes) -> None:
        adapter.replies["POST"] = Reply(body)
        got = click(page)
        assert (got.status, list(got.json)) == (503, ["error"])

    def test_a_long_refusal_is_cut(self, page: Page, adapter: Adapter) -> None:
        adapter.replies["POST"] = Reply(json.dumps({"detail": "x" * 10_000}).encode(), 400)
        assert click(page).json["error"] == "x" * 300

    @pytest.mark.parametrize(
        "body",
        [
            *[b"[]", b"{", b"\xff", b"x" * 5_000, b"[" * 1_000],
            *[b'{"fields": []}', b'{"fields": {"a": [1]}}', b'{"fields": {"a": null}}', b'{"fields": {"a b": 1}}'],
            b'{"fields": {"a": "' + b"x" * 501 + b'"}}',
            *[b'{"worker": 1}', b'{"worker": "1"}', b'{"worker": "http://elsewhere/1"}'],
            *[b'{"worker": "poll://any@service"}', b'{"worker": "poll://some@service/1"}'],
            b'{"worker": "poll://any@service/' + b"x" * 500 + b'"}',
            json.dumps({"fields": {f"a{number}": 1 for number in range(9)}}).encode(),
        ],
        ids=lambda body: str(body[:30]),
    )
    def test_an_invalid_click_is_refused_and_not_forwarded(self, page: Page, adapter: Adapter, body: bytes) -> None:
        got = page.act(body, "order")
        assert (got.status, list(got.json), adapter.asked) == (400, ["error"], [])

    def test_a_click_that_arrives_too_slowly_is_refused_like_any_other(self, guarded: ServerProcess) -> None:
        with socket.create_connection(("127.0.0.1", guarded.port), timeout=60) as slow:
            head = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9"
            slow.sendall(f"POST /ui/api/actions/a HTTP/1.1\r\n{head}\r\n\r\n{{".encode())
            answer = HTTPResponse(slow)
            answer.begin()
            assert (answer.status, json.loads(answer.read())) == (408, {"error": "the request came too slowly"})

    @pytest.mark.parametrize("name", ["..", "%2e%2e", "a%2Fb", "a?b", "a/b", "a%0Ab", "http:%2F%2Fx", ""])
    def test_no_name_leads_to_another_address(self, page: Page, adapter: Adapter, name: str) -> None:
        page.act(b"{}", name)
        assert [asked.path for asked in adapter.asked if asked.path != "/actions/a"] == []


@pytest.mark.parametrize(
    "url", ["foo", "ftp://a/", "http:///a", "http://a/b?c", "http://a/b#c", "http://a/ b", "http://user:word@a/"]
)
def test_an_invalid_address_stops_the_start(url: str) -> None:
    result = CliRunner(env={"RESONATE_UI__ACTIONS_URL": url}).invoke(cli.main, ["dev"])
    assert result.exit_code == 2
    assert "RESONATE_UI__ACTIONS_URL" in result.stderr
