"""What the server sends to the live page while the demo's own services run, die and come back."""

import json
from collections.abc import Iterator

import pytest
from harness.page import Page
from ui.demo import Demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with Demo(tmp_path_factory.mktemp("demo"), grace_ms=400) as demo:
        yield demo


@pytest.fixture
def page(demo: Demo) -> Page:
    demo.restore()
    return Page(demo.server.port)


def send(page: Page, **wish: float) -> str:
    """Start a chain from the page, and return its id."""
    got = page.act(json.dumps({"fields": wish}).encode())
    assert got.status == 202, got.body
    id: str = got.json["id"]
    return id


def test_a_killed_bar_leaves_a_gap_and_its_successor_continues(demo: Demo, page: Page) -> None:
    with page.watch() as watching:
        id = send(page, pause=600)
        bar = watching.until("promise.created", func="bar", chain=id)["id"]
        timer = watching.until("promise.created", timer=True, chain=id)["id"]
        suspended = watching.until("task.suspended", id=bar, on=[timer])
        demo.kill("bar")
        left = watching.until("worker.left", group="service-bar")
        watching.until("worker.gone", group="service-bar", pid=left["pid"])
        demo.server.client().end_sleep(id)
        waiting = watching.until("task.queued", id=bar)
        shown = page.get("/ui/api/chain", id=id).json
        demo.launch("bar")
        connected = watching.until("worker.connected", group="service-bar")
        sent = watching.until("task.sent", id=bar)
        claimed = watching.until("task.claimed", id=bar)
        settled = watching.until("promise.settled", id=id)

    own = [event for event in watching.seen if event.get("chain") == id]
    claims = {event["group"] for event in own if event["kind"] == "task.claimed"}
    assert {"foo", "bar", "baz"} == {event.get("func") for event in own} - {None}
    assert claims == {"service-foo", "service-bar", "service-baz"}
    assert suspended["pid"] == left["pid"] != connected["pid"] == sent["pid"] == claimed["pid"]
    assert waiting["reason"] == "resumed"
    assert claimed["version"] == waiting["version"] + 1
    assert settled["value"]["text"] == "3"
    (task,) = [promise["task"] for promise in shown["promises"] if promise["id"] == bar]
    assert (task["state"], task["pid"]) == ("pending", None)


def test_the_page_offers_what_foo_offers_and_a_field_has_the_limits_that_foo_checks(page: Page) -> None:
    shown = page.get("/ui/api/actions").json
    assert shown["trouble"] == ""
    assert [(action["label"], bool(action["commands"]), action["workers"]) for action in shown["actions"]] == [
        ("Send a request", False, None),
        ("Have bar work", False, None),
        ("Break it", True, None),
        ("Kill", False, "service-"),
        ("Kill at work", False, "service-bar"),
        ("Freeze 15 s", False, "service-"),
    ]

    (pause,) = shown["actions"][0]["fields"]
    values = (pause["min"], pause["default"], pause["max"], pause["min"] - 1, pause["max"] + 1)
    replies = [page.act(json.dumps({"fields": {"pause": value}}).encode()) for value in values]
    assert [reply.status for reply in replies] == [202, 202, 202, 400, 400]
    assert "the body must be a JSON object like" in replies[-1].json["error"]
    missing = page.act(b"{}", "nothing")
    assert (missing.status, list(missing.json)) == (400, ["error"])
