"""A page of another site, open in the same browser, changes nothing and reads nothing on any port of this machine."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from harness.basics import answers_200, free_port, wait_until
from harness.metrics import refusals
from harness.server import FAR, VERSION
from harness.services import ServiceProcess
from msgspec import Struct
from playwright.sync_api import Browser, Page, expect

from ui.browser import REBOUND
from ui.conftest import Start
from ui.demo import create

pytestmark = [pytest.mark.long, pytest.mark.browser]

WAYS = Path(__file__).with_name("ways.js")

SECRET = "secret-of-this-machine"
"""Part of a promise's id, and so of answers."""

REFUSALS = ("RESONATE_SERVER__HOSTS", "RESONATE_SERVER__CORS__ALLOW_ORIGINS", "FOO_HOSTS")
"""The only thing that a page may read: that it was refused."""


def envelope(kind: str, data: Any) -> str:
    return json.dumps({"kind": kind, "head": {"corrId": "1", "version": VERSION}, "data": data})


def attack() -> tuple[str, ...]:
    """Return requests that would make a worker of service-bar read a pickle: a rejected call and a task awaiting it."""
    error = {"__type": "error", "message": "x", "__py_pickle": base64.b64encode(b"cos\nsystem\n(S'true'\ntR.").decode()}
    rejected = {"headers": {}, "data": base64.b64encode(json.dumps(error).encode()).decode()}
    call = {"headers": {}, "data": base64.b64encode(b'{"func": "bar", "args": []}').decode()}
    task = {"id": "evil", "timeoutAt": FAR, "param": call, "tags": {"resonate:target": "poll://any@service-bar"}}
    create = {"kind": "promise.create", "head": {}, "data": task}
    return (
        envelope("promise.create", {"id": "evil.1", "timeoutAt": FAR, "param": {}, "tags": {}}),
        envelope("promise.settle", {"id": "evil.1", "state": "rejected", "value": rejected}),
        envelope("task.create", {"pid": "evil", "ttl": 60_000, "action": create}),
        envelope("promise.create", task),
        envelope("promise.settle", {"id": SECRET, "state": "rejected", "value": rejected}),
    )


CLICK = '{"worker": "poll://any@service-foo/0123abcd"}'
"""A click on a worker's fault; accepting it would call that fault."""


def is_refusal(seen: str) -> bool:
    return SECRET not in seen and any(setting in seen for setting in REFUSALS)


class Surface(Struct, frozen=True):
    """A path to attack; ``bodies`` are posted to it, or it is requested with GET if there are none."""

    path: str
    bodies: tuple[str, ...] = ()


# By listener; `Target.ports` has their ports. (``integration/test_gate.py`` tries every path.)
SURFACES = {
    "api": [
        Surface("/", attack()),
        Surface("/ui/api/actions/kill", (CLICK,)),
        Surface("/"),
        Surface("/poll/service-bar/evil"),
        Surface("/ui/"),
        Surface("/ui/js/main.js"),
        Surface("/ui/icon.svg"),
        Surface("/ui/api/events"),
        Surface(f"/ui/api/chain?id={SECRET}"),
        Surface("/health"),
        Surface("/backup"),
    ],
    "metrics": [Surface("/metrics"), Surface("/")],
    "foo": [
        Surface("/foo", ('{"pause": 0}', "")),
        Surface("/actions/request", ('{"pause": 0}', "")),
        Surface("/actions/kill", (CLICK,)),
        Surface("/actions"),
        Surface("/foo"),
        Surface(f"/foo/{SECRET}"),
        Surface("/"),
    ],
}


class View(Struct, frozen=True):
    """Where the page comes from, and the name by which it calls the server. ``page`` is a name on the stranger's port
    or empty: then, as far as the browser can tell, the page has the name and port of the server it calls."""

    page: str
    called: str


VIEWS = {
    "another port of the same name": View("localhost", "localhost"),
    "another name of this machine": View("localhost", "127.0.0.1"),
    "another site": View(REBOUND, "127.0.0.1"),
    "a name that was made to point here": View(REBOUND, REBOUND),
    "the same name and port, made to point here": View("", REBOUND),
}


class Target:
    """The server and foo under attack."""

    def __init__(self, start: Start, folder: Path) -> None:
        self.ports = {"metrics": free_port(), "foo": free_port()}
        settings = {
            "RESONATE_OBSERVABILITY__METRICS_PORT": str(self.ports["metrics"]),
            "RESONATE_UI__ACTIONS_URL": f"http://127.0.0.1:{self.ports['foo']}/actions",
        }
        self.server = start("resonate.db", **settings)
        self.ports["api"] = self.server.port
        settings = {"FOO_PORT": str(self.ports["foo"]), "DEMO_FAULTS": "1"}
        self.foo = ServiceProcess("foo", self.server.url, folder / "foo.log", **settings)
        wait_until(lambda: answers_200(self.ports["foo"], "/health"), "foo answers")
        create(self.server.client(), SECRET)

    def address(self, listener: str, name: str) -> str:
        return f"http://{name}:{self.ports[listener]}"

    def refused(self, listener: str = "api") -> int:
        """Return the number of refused requests. The server counts them itself; foo logs a line for each."""
        if listener == "foo":
            return len(re.findall(r"  status=(?:403|415|421)  ", self.foo.output()))
        return refusals(self.ports["metrics"]).total()

    def stored(self) -> list[Any]:
        """Return all promises, tasks and schedules."""
        client = self.server.client()
        return [client.call(f"{kind}.search", limit=1_000).data for kind in ("promise", "task", "schedule")]

    def has_had_workers(self) -> bool:
        return "worker connected: service-bar/" in self.server.output()


@pytest.fixture(scope="module")
def target(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    target = Target(start, tmp_path_factory.mktemp("target"))
    yield target
    target.foo.stop()


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of another server on this machine. Its page lists an empty folder."""
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path_factory.mktemp("stranger"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab without the checks of the other tests, because here much goes wrong."""
    context = browser.new_context()
    context.add_init_script(path=WAYS)
    yield context.new_page()
    context.close()


def try_everything(page: Page, url: str, bodies: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Return what the page could read, by the kind of request."""
    tried: dict[str, list[str]] = page.evaluate("([url, bodies]) => tryEverything(url, bodies)", [url, list(bodies)])
    return tried


@pytest.mark.parametrize("listener", SURFACES)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_a_page_can_change_nothing_and_read_nothing(
    target: Target, stranger: int, page: Page, view: View, listener: str
) -> None:
    address = target.address(listener, view.called)
    # The error answer of `/nowhere` becomes a page of that origin, like one loaded from there earlier.
    page.goto(f"http://{view.page}:{stranger}/" if view.page else f"{address}/nowhere")
    before, stored = target.refused(listener), target.stored()

    tried = [try_everything(page, address + surface.path, surface.bodies) for surface in SURFACES[listener]]

    answers = [seen for ways in tried for answers in ways.values() for seen in answers]
    wait_until(lambda: target.refused(listener) - before >= len(answers), "every request is counted")
    # A browser may repeat a request: after a 421, or on a connection that foo has closed.
    assert target.refused(listener) - before == len(answers) or view.called == REBOUND or listener == "foo"
    assert [seen for seen in answers if seen and not is_refusal(seen)] == []
    assert not any(frame.locator("#status").count() for frame in page.frames)
    assert target.stored() == stored
    assert not target.has_had_workers()


def test_nothing_is_changed_even_if_the_browser_sends_less(start: Start, stranger: int, page: Page) -> None:
    """Over plain HTTP to a name other than loopback, a browser does not always send the requesting page's origin."""
    server = start("rebound.db", RESONATE_SERVER__HOSTS=REBOUND)
    page.goto(f"http://localhost:{stranger}/")
    for path, bodies in (("/", attack()), ("/poll/service-bar/evil", ()), ("/backup", ())):
        try_everything(page, f"http://{REBOUND}:{server.port}{path}", bodies)

    assert server.client().call("promise.search").data == {"promises": []}
    assert "worker connected" not in server.output()
    assert "a backup of" not in server.output()


def test_a_link_from_another_site_leads_to_a_working_page(target: Target, stranger: int, page: Page) -> None:
    page.goto(f"http://localhost:{stranger}/")
    before = target.refused()
    page.evaluate("(url) => { location = url }", f"{target.address('api', '127.0.0.1')}/")

    expect(page.locator("#status")).to_have_attribute("data-state", "live")
    expect(page.locator("#chains [data-chain]").first).to_be_visible()
    page.locator("#action-request").click()
    wait_until(lambda: target.foo.runs("foo"), "foo runs")
    assert target.refused() == before


def test_a_page_that_has_opened_ours_cannot_steer_it(target: Target, stranger: int, page: Page) -> None:
    page.goto(f"http://localhost:{stranger}/")
    ours = f"{target.address('api', '127.0.0.1')}/ui/"
    with page.expect_popup() as opened:
        page.evaluate("(url) => { window.opened = window.open(url) }", ours)
    expect(opened.value.locator("#status")).to_have_attribute("data-state", "live")
    page.evaluate("(url) => { window.opened.location = url }", f"{ours}#token=of-somebody-else")
    page.wait_for_timeout(500)
    assert opened.value.evaluate("sessionStorage.length") == 0


def test_a_page_of_an_allowed_origin_may_send_requests(start: Start, stranger: int, page: Page) -> None:
    """Shows that the requests of other pages fail because of their origin, not because they are malformed."""
    ours = f"http://localhost:{stranger}"
    server = start(RESONATE_SERVER__CORS__ALLOW_ORIGINS=ours)
    page.goto(ours)
    assert try_everything(page, server.url, attack()[:1])["fetch of JSON"][0].startswith("200 ")
    assert try_everything(page, f"{server.url}/poll/service-bar/x")["events"] == ["opened"]
    assert "worker connected" in server.output()
