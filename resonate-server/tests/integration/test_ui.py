"""The live page's server side over real sockets: files, stream, list, chain, and who may see what."""

import gzip
import json
import re
import socket
from collections.abc import Callable
from typing import Any

import jwt
import psycopg
import pytest
from harness.page import Page
from harness.server import FAR, Client, ServerProcess
from harness.stream import Stream
from integration.calls import encoded, named
from integration.servers import IMPATIENT, Start, postgres_at

from resonate_server.http.ui.files import STATIC
from resonate_server.protocol.requests import MAX_ID_CHARACTERS

type Connect = Callable[[str, str], Stream]

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "\"'`${}\\",
    "\u202etxt.exe",
    "a\x1b[2J\r\n\x07b",
    "../../etc/passwd",
    "a b?c#d%2F&e=f",
    "é😀\u2028",
    "__proto__",
]


@pytest.fixture
def page(server: ServerProcess) -> Page:
    return Page(server.port)


def create(client: Client, id: str, param: dict[str, str] | None = None, **tags: str) -> None:
    assert client.call("promise.create", id=id, timeoutAt=FAR, param=param or {}, tags=named(tags)).status == 200


class TestFiles:
    def test_the_page_is_served(self, page: Page) -> None:
        for path in ("/ui/", "/ui/index.html"):
            got = page.get(path)
            assert (got.status, got.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert b"<!doctype html>" in got.body.lower()

    @pytest.mark.parametrize("accept", ["text/html,application/xhtml+xml,*/*;q=0.8", "*/*"], ids=["browser", "curl"])
    def test_browsers_are_redirected_to_the_page(self, page: Page, accept: str) -> None:
        for path in ("/", "/ui"):
            got = page.get(path, headers={"Accept": accept})
            assert (got.status, got.headers["location"]) == (302, "/ui/")

    def test_a_client_that_accepts_gzip_gets_it_compressed_and_others_do_not(self, page: Page) -> None:
        plain = page.get("/ui/")
        for asked in ("gzip", "GZIP", "br, gzip;q=0.5", "gzip;q=1.0, *;q=0", "*"):
            small = page.get("/ui/", headers={"Accept-Encoding": asked})
            assert (small.headers["content-encoding"], small.headers["vary"]) == ("gzip", "Accept-Encoding"), asked
            assert gzip.decompress(small.body) == plain.body
        for asked in ("", "br", "identity", "gzip;q=0", "br, gzip; q=0.000", "notgzip", "gzip2"):
            got = page.get("/ui/", headers={"Accept-Encoding": asked})
            assert ("content-encoding" in got.headers, got.headers["vary"]) == (False, "Accept-Encoding"), asked
            assert got.body == plain.body

    def test_an_unchanged_file_is_not_sent_again_in_the_encoding_that_is_cached(self, page: Page) -> None:
        plain, small = [page.get("/ui/", headers={"Accept-Encoding": asked}).headers["etag"] for asked in ("", "gzip")]
        for asked, etag, status in (("", plain, 304), ("gzip", small, 304), ("gzip", plain, 200)):
            again = page.get("/ui/", headers={"Accept-Encoding": asked, "If-None-Match": etag})
            assert (again.headers["cache-control"], again.status, not again.body) == ("no-cache", status, status == 304)

    def test_the_whole_page_weighs_at_most_60_kb(self) -> None:
        """The size as sent; 1 kB is 1,000 bytes."""
        files = [path for path in STATIC.rglob("*") if path.is_file()]
        assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in files) <= 60_000

    def test_nothing_but_the_page_s_own_files_is_served(self, page: Page) -> None:
        for path in ("nothing", "../config.py", "%2e%2e/routes.py", "..%2froutes.py", "/etc/passwd", "%00"):
            assert page.get(f"/ui/{path}").status == 404, path

    def test_every_answer_forbids_what_the_page_does_not_need(self, page: Page) -> None:
        policy = "default-src 'none'; script-src 'self'; style-src 'self';"
        for path in ("", "nothing", "api/actions", "api/chain", "api/chains"):
            headers = page.get(f"/ui/{path}").headers
            assert headers["content-security-policy"].startswith(policy)
            assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
            assert headers["cross-origin-opener-policy"] == "same-origin"

    def test_the_page_can_be_disabled(self, start: Start) -> None:
        page = Page(start(RESONATE_UI__ENABLED="false").port)
        assert [page.get(path).status for path in ("/ui/", "/ui/api/chains", "/")] == [404, 404, 405]


class TestStream:
    def test_events_come_as_things_happen(self, page: Page, client: Client, id: str) -> None:
        with page.watch() as watching:
            create(client, id, encoded({"func": "f"}), target="poll://any@nobody")
            created = watching.until("promise.created", id=id)
            queued = watching.until("task.queued", id=id)
            client.call("promise.settle", id=id, state="resolved", value=encoded(3))
            settled = watching.until("promise.settled", id=id)

        assert (created["func"], created["group"], created["chain"]) == ("f", "nobody", id)
        assert (created["parent"], created["timer"], created["timeout_at"]) == (None, False, FAR)
        assert created["created_at"] == settled["created_at"] <= settled["settled_at"]
        assert queued["reason"] == "created"
        assert settled["value"] == {"text": "3", "cut": False, "bytes": 1}
        assert created["seq"] < queued["seq"] < settled["seq"]

    def test_events_show_a_worker_s_life(self, page: Page, client: Client, connect: Connect, id: str) -> None:
        with page.watch() as watching:
            create(client, id, target=f"poll://any@{id}")
            stream = connect(id, "pid-1")
            watching.until("worker.connected", group=id, pid="pid-1")
            sent = watching.until("task.sent", id=id)
            client.call("task.acquire", id=id, version=0, pid="pid-1", ttl=60_000)
            claimed = watching.until("task.claimed", id=id)
            stream.close()
            left = watching.until("worker.left", group=id, pid="pid-1")
            watching.until("worker.gone", group=id, pid="pid-1")
            lost = watching.until("task.lost", id=id)
            queued = watching.until("task.queued", id=id)

        assert (sent["pid"], sent["version"]) == ("pid-1", 0)
        assert (claimed["pid"], claimed["version"]) == ("pid-1", 1)
        assert not left["planned"]
        assert (lost["reason"], queued["reason"]) == ("gone", "gone")

    def test_hello_and_beats_list_the_connected_workers(
        self, page: Page, client: Client, connect: Connect, id: str
    ) -> None:
        connect(id, "pid-1")
        create(client, id, target=f"poll://any@{id}")
        client.call("task.acquire", id=id, version=0, pid="pid-1", ttl=60_000)
        create(client, f"{id}-waits", target=f"poll://any@{id}-nobody")

        with page.watch() as watching:
            beat = watching.until("beat")
            told = watching.hello["groups"]

        for groups in (told, beat["groups"]):
            by_name = {group["name"]: group for group in groups}
            (worker,) = by_name[id]["workers"]
            assert (worker["pid"], worker["state"], worker["held"]) == ("pid-1", "connected", 1)
            assert (by_name[f"{id}-nobody"]["waiting"], by_name[f"{id}-nobody"]["workers"]) == (1, [])

    def test_a_viewer_that_reconnects_gets_what_it_missed(self, page: Page, client: Client, id: str) -> None:
        with page.watch() as watching:
            create(client, f"{id}-a")
            watching.until("promise.created", id=f"{id}-a")
        create(client, f"{id}-b")

        with page.watch(watching.place) as again:
            assert again.hello["resumed"]
            assert again.line()["id"] == f"{id}-b"

    def test_a_new_viewer_gets_as_much_of_the_past_as_it_asks_for(self, page: Page, client: Client, id: str) -> None:
        create(client, f"{id}-a")
        create(client, f"{id}-b")
        with page.watch(past=1) as watching:
            told = watching.line()
            assert (told["id"], told["seq"]) == (f"{id}-b", watching.hello["seq"])
            assert not watching.hello["resumed"]

    def test_after_a_restart_the_page_starts_over(self, start: Start) -> None:
        server = start("state.db")
        page = Page(server.port)
        create(server.client(), "before")
        with page.watch() as watching:
            server.kill()
            with pytest.raises((EOFError, OSError)):
                watching.line()
        server.start()
        with page.watch(watching.place) as again:
            assert not again.hello["resumed"]
            assert again.hello["epoch"] != watching.hello["epoch"]
        assert page.get("/ui/api/chains").json["chains"][0]["id"] == "before"


class TestChains:
    def test_a_chain_is_returned_with_its_promises_and_the_history_of_each(
        self, page: Page, client: Client, id: str
    ) -> None:
        create(client, id, encoded({"func": "f"}), target="poll://any@nobody")
        create(client, f"{id}:1", origin=id, parent=id)

        chain = page.get("/ui/api/chain", id=f"{id}:1").json

        assert [(each["id"], each["parent"]) for each in chain["promises"]] == [(id, None), (f"{id}:1", id)]
        assert [each["role"] for each in chain["promises"]] == ["call", "step"]
        assert [phase["reason"] for phase in chain["promises"][0]["phases"]] == ["nobody"]
        assert chain["promises"][0]["task"]["state"] == "pending"

    @pytest.mark.parametrize("text", HOSTILE)
    def test_ids_and_payloads_come_back_as_they_are_and_as_json_only(
        self, page: Page, client: Client, id: str, text: str
    ) -> None:
        harmless = re.sub("[\x00-\x1f]", "", text)
        hostile = id + harmless
        create(client, hostile, encoded({"func": text, "args": [text]}), target=f"http://{id}/{harmless}")
        client.call("promise.settle", id=hostile, state="rejected", value=encoded({"message": text}))

        listed = page.get("/ui/api/chains", text=id).json["chains"][0]
        got = page.get("/ui/api/chain", id=hostile)
        (promise,) = got.json["promises"]

        assert got.headers["content-type"] == "application/json"
        assert listed["id"] == got.json["id"] == hostile
        assert listed["func"] == promise["func"] == text
        assert json.loads(promise["value"]["text"]) == {"message": text}

    @pytest.mark.parametrize("character", ["x", "é", "😀"])
    def test_the_longest_possible_id_can_be_requested(self, page: Page, client: Client, character: str) -> None:
        longest = character * MAX_ID_CHARACTERS
        assert page.get("/ui/api/chain", id=longest).status == 404
        create(client, longest)
        assert page.get("/ui/api/chain", id=longest).json["id"] == longest

    @pytest.mark.parametrize(
        ("path", "query", "status"),
        [
            ("/ui/api/chain", {}, 400),
            ("/ui/api/chain", {"id": "unknown"}, 404),
            *[("/ui/api/chains", {"limit": limit}, 400) for limit in ("0", "201", "many", "9" * 5_000)],
            ("/ui/api/chains", {"state": "done"}, 400),
            ("/ui/api/chains", {"before": "yesterday"}, 400),
            ("/ui/api/chains", {"text": "x" * 201}, 400),
        ],
    )
    def test_an_invalid_query_is_answered_with_one_sentence(
        self, page: Page, path: str, query: dict[str, Any], status: int
    ) -> None:
        got = page.get(path, **query)
        assert got.status == status
        assert list(got.json) == ["error"]


@pytest.fixture(scope="module")
def guarded(start_for_all: Start) -> ServerProcess:
    """A server that demands tokens; other tests check that it verifies them."""
    return start_for_all(RESONATE_AUTH__PUBLICKEY="none", RESONATE_UI__ACTIONS_URL="http://127.0.0.1:9")


class TestTokens:
    @pytest.fixture
    def admin(self, guarded: ServerProcess) -> Page:
        return Page(guarded.port, token(role="admin"))

    @pytest.fixture
    def limited(self, guarded: ServerProcess, id: str) -> Page:
        return Page(guarded.port, token(prefix=f"{id}.mine"))

    @pytest.fixture
    def make(self, guarded: ServerProcess) -> Callable[..., None]:
        def create_promise(id: str, **tags: str) -> None:
            create(Client(guarded.port, token=token(role="admin")), id, None, **tags)

        return create_promise

    @pytest.mark.parametrize("path", ["/ui/api/chains", "/ui/api/chain?id=a", "/ui/api/events"])
    @pytest.mark.parametrize(("claims", "status"), [(None, 401), ({}, 403), ({"exp": 1, "role": "admin"}, 401)])
    def test_nothing_is_revealed_without_a_valid_token(
        self, guarded: ServerProcess, path: str, claims: dict[str, Any] | None, status: int
    ) -> None:
        got = Page(guarded.port, "" if claims is None else token(**claims)).get(path)
        assert got.status == status
        assert list(got.json) == ["error"]

    def test_a_prefix_sees_its_own_chains_and_events(
        self, limited: Page, admin: Page, make: Callable[..., None], id: str
    ) -> None:
        with limited.watch() as watching, admin.watch() as other:
            make(id)
            make(f"{id}.mine", origin=id, parent=id)
            make(f"{id}.mine-too")
            watching.until("promise.created", id=f"{id}.mine-too")
            other.until("promise.created", id=f"{id}.mine-too")

        seen = [event for event in watching.seen if "id" in event]
        assert [event["id"] for event in seen] == [f"{id}.mine", f"{id}.mine-too"]
        assert (seen[0]["chain"], seen[0]["parent"]) == (None, None)
        assert next(event["id"] for event in other.seen if "id" in event) == id
        assert [chain["id"] for chain in limited.get("/ui/api/chains").json["chains"]] == [f"{id}.mine-too"]

    def test_a_prefix_does_not_see_other_chains(self, limited: Page, make: Callable[..., None], id: str) -> None:
        make(f"{id}-yours")
        assert limited.get("/ui/api/chain", id=f"{id}-yours").status == 403
        assert limited.get("/ui/api/chain", id=f"{id}-unknown").status == 403
        assert limited.get("/ui/api/chain", id=f"{id}.mine-unknown").status == 404

    def test_a_prefix_does_not_see_groups_of_others_or_how_much_they_do(
        self, guarded: ServerProcess, limited: Page, admin: Page, make: Callable[..., None], id: str
    ) -> None:
        groups = [f"{id}-yours", f"{id}.mine"]
        with limited.watch() as watching, admin.watch() as other:
            for group in groups:
                Stream(guarded.port, group, "pid", Authorization=f"Bearer {token(role='admin')}").close()
                other.until("worker.left", group=group)
            make(f"{id}-waits", target=f"poll://any@{groups[0]}")
            make(f"{id}.mine-too", target=f"poll://any@{groups[1]}")
            watching.until("promise.created")
            told, shown = watching.until("beat"), other.until("beat")

        numbers, seen = zip(
            *[(event["seq"], event.get("group")) for event in watching.seen if "seq" in event], strict=True
        )
        assert ({*seen}, numbers) == ({groups[1]}, (*range(1, 1 + len(numbers)),))
        assert [(group["name"], group["waiting"]) for group in told["groups"]] == [(groups[1], None)]
        assert {*groups} <= {group["name"] for group in shown["groups"]}

    def test_only_an_admin_is_offered_actions_and_may_act(self, limited: Page, admin: Page) -> None:
        assert limited.act().status == 403
        assert admin.act().status == 503  # Nothing listens at the address for actions.
        assert [bool(page.get("/ui/api/actions").json["trouble"]) for page in (limited, admin)] == [False, True]


def token(**claims: Any) -> str:
    return jwt.encode({"exp": FAR // 1_000, **claims}, "a key that nobody asks for, of good length")


def test_a_stream_that_has_begun_is_not_answered_once_more_when_the_database_is_lost(
    start: Start, own_postgres_url: str
) -> None:
    """It just ends: a second answer would be read as a part of the first one."""
    server = start(program=IMPATIENT, **postgres_at(own_postgres_url))
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as viewer:
        viewer.sendall(b"GET /ui/api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = viewer.recv(65_536)
        with psycopg.connect(own_postgres_url.rpartition("/")[0] + "/postgres", autocommit=True) as admin:
            name = own_postgres_url.rpartition("/")[2]
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            while more := viewer.recv(65_536):
                said += more
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
    assert said.count(b"HTTP/1.1 ") == 1
    assert not said.endswith(b"0\r\n\r\n"), "it did not end well"
