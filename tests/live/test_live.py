"""What the live page is told while the demo's own services run, die and come back."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from harness.basics import answers_200, free_port
from harness.page import Page
from harness.server import ServerProcess
from harness.services import ServiceProcess

GRACE_MS = 400


class Demo:
    """A server that knows where foo is, and the three services."""

    def __init__(self, folder: Path) -> None:
        self.foo_port = free_port()
        self.server = ServerProcess(
            folder / "server.log",
            folder / "state.db",
            RESONATE_UI__ACTIONS_URL=f"http://127.0.0.1:{self.foo_port}/actions",
            RESONATE_TASKS__WORKER_GRACE=str(GRACE_MS),
        ).start()
        self.services = {
            name: ServiceProcess(name, self.server.url, folder / f"{name}.log", FOO_PORT=str(self.foo_port))
            for name in ("baz", "bar", "foo")
        }
        self.page = Page(self.server.port)
        self._wait_until_ready()

    def close(self) -> None:
        for service in self.services.values():
            service.stop()
        self.server.stop()

    def send(self, **wish: float) -> str:
        """Start a chain from the page; its id."""
        got = self.page.act(json.dumps({"fields": wish}).encode())
        assert got.status == 202, got.body
        id: str = got.json["id"]
        return id

    def post(self, wish: dict[str, float]) -> None:
        """Start a chain as other clients than the page do."""
        url = f"http://127.0.0.1:{self.foo_port}/foo"
        headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
        with urlopen(Request(url, json.dumps(wish).encode(), headers), timeout=20) as response:
            assert response.status == 202

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while not (answers_200(self.foo_port, "/health") and self._groups() >= {"service-bar", "service-baz"}):
            assert time.monotonic() < deadline, [service.output() for service in self.services.values()]
            time.sleep(0.05)

    def _groups(self) -> set[str]:
        with self.page.watch() as watching:
            return {group["name"] for group in watching.hello["groups"]}


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    yield demo
    demo.close()


def test_a_chain_is_told_from_the_button_to_the_result(demo: Demo) -> None:
    with demo.page.watch() as watching:
        id = demo.send()
        settled = watching.until("promise.settled", id=id)

    created = [event for event in watching.seen if event["kind"] == "promise.created"]
    claimed = [event for event in watching.seen if event["kind"] == "task.claimed"]
    assert [event["func"] for event in created] == ["foo", "bar", "baz"]
    assert {event["chain"] for event in [*created, *claimed]} == {id}
    assert {event["group"] for event in claimed} == {"service-foo", "service-bar", "service-baz"}
    assert settled["value"]["text"] == "3"


def test_a_killed_bar_leaves_a_gap_and_its_successor_goes_on(demo: Demo) -> None:
    with demo.page.watch() as watching:
        id = demo.send(pause=600)
        bar = watching.until("promise.created", func="bar")["id"]
        timer = watching.until("promise.created", timer=True)["id"]
        suspended = watching.until("task.suspended", id=bar, on=[timer])
        demo.services["bar"].kill()
        left = watching.until("worker.left", group="service-bar")
        watching.until("worker.gone", group="service-bar", pid=left["pid"])
        demo.server.client().end_sleep(id)
        waiting = watching.until("task.queued", id=bar)
        shown = demo.page.get("/ui/api/chain", id=id).json
        demo.services["bar"].launch()
        connected = watching.until("worker.connected", group="service-bar")
        sent = watching.until("task.sent", id=bar)
        claimed = watching.until("task.claimed", id=bar)
        settled = watching.until("promise.settled", id=id)

    assert suspended["pid"] == left["pid"] != connected["pid"] == sent["pid"] == claimed["pid"]
    assert (waiting["reason"], sent["chain"]) == ("resumed", id)
    assert claimed["version"] == waiting["version"] + 1
    assert settled["value"]["text"] == "3"
    (task,) = [promise["task"] for promise in shown["promises"] if promise["id"] == bar]
    assert (task["state"], task["pid"]) == ("pending", None)


def test_the_page_offers_what_foo_offers(demo: Demo) -> None:
    shown = demo.page.get("/ui/api/actions").json

    assert shown["trouble"] == ""
    assert [(action["label"], bool(action["commands"])) for action in shown["actions"]] == [
        ("Send a request", False),
        ("Break it", True),
    ]


def test_limits_of_a_field_are_those_that_foo_checks(demo: Demo) -> None:
    (pause,) = demo.page.get("/ui/api/actions").json["actions"][0]["fields"]

    statuses = [
        demo.page.act(json.dumps({"fields": {"pause": value}}).encode()).status
        for value in (pause["min"], pause["default"], pause["max"], pause["min"] - 1, pause["max"] + 1)
    ]
    refused = demo.page.act(b'{"fields": {"pause": 3601}}')

    assert statuses == [202, 202, 202, 400, 400]
    assert "the body must be a JSON object like" in refused.json["error"]


def test_an_action_that_foo_does_not_have_is_refused(demo: Demo) -> None:
    got = demo.page.act(b"{}", "nothing")

    assert (got.status, list(got.json)) == (400, ["error"])


def test_a_bar_that_is_killed_at_work_loses_its_attempt(demo: Demo) -> None:
    with demo.page.watch() as watching:
        demo.post({"running": 60})
        bar = watching.until("promise.created", func="bar")["id"]
        watching.until("promise.created", parent=bar, group=None)
        demo.services["bar"].kill()
        lost = watching.until("task.lost", id=bar)
        queued = watching.until("task.queued", id=bar)

    assert (lost["reason"], queued["reason"]) == ("gone", "gone")
