"""In any crash, a page that was open all the time and one opened later show the same history, row by row."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from harness.basics import wait_until
from harness.stream import Stream
from playwright.sync_api import expect

from resonate_server.client import main
from ui.browser import Tab
from ui.conftest import OpenTab, Start
from ui.demo import LEASE_SECONDS, LONG, Demo, create

pytestmark = [pytest.mark.long, pytest.mark.browser]

SERVER = "resonate-server"

WORK = 5
PAUSE_MS = 2_000
FREEZE_MS = 1_000 * (int(LEASE_SECONDS) + 3)

SCENARIOS = [
    ("foo", "kill", "suspended"),
    ("foo", "freeze", "running"),
    ("bar", "kill", "running"),
    ("bar", "freeze", "running"),
    ("baz", "pause", "idle"),
    (SERVER, "kill", "suspended"),
    (SERVER, "pause", "running"),
]
"""Each service, each fault and each moment."""

PICTURE = """() => {
  const rows = [...document.querySelectorAll("#timeline .row")].sort((a, b) => a.ariaPosInSet - b.ariaPosInSet);
  const stripe = ({ dataset, title, textContent }) => ({ ...dataset, title, text: textContent });
  const row = (node) => [
    ...[".row-name", ".row-id", ".row-attempt", ".row-result"].map((part) => node.querySelector(part).textContent),
    node.dataset.state,
    ...[...node.querySelectorAll(".stripe")].map(stripe).sort((a, b) => (a.title < b.title ? -1 : 1)),
  ];
  const outages = [...document.querySelectorAll("#outages .outage")].map((node) => node.textContent);
  const story = [...document.querySelectorAll("#story bdi")].map((node) => node.textContent);
  return [document.querySelector("#headline").dataset.tone, ...story, ...outages, ...rows.map(row)];
}"""
"""Everything drawn for the chain, with all times."""


class Twins:
    """``live`` has been open all the time; ``fresh`` is reloaded for each comparison."""

    def __init__(self, live: Tab, fresh: Tab, id: str) -> None:
        self.live = live
        self.id = id
        self._fresh = fresh
        self._fresh.may_lack_answers = True  # its pending loads are aborted by the next reload

    def agree(self, when: str) -> None:
        self._fresh.visit(self.id)
        pictures: list[Any] = []

        def look() -> bool:
            self._fresh.page.reload()
            self._fresh.find("#chain-id", self.id).or_(self._fresh.find("#status[data-state=failed]")).wait_for()
            pictures[:] = [self.live.script(PICTURE), self._fresh.script(PICTURE)]
            return bool(pictures[0] == pictures[1])

        try:
            wait_until(look, f"both show the same {when}", every=0.2)
        except AssertionError:
            assert pictures[0] == pictures[1], when
            raise


@pytest.fixture
def twins(demo: Demo, open_tab: OpenTab, id: str) -> Twins:
    live = open_tab(demo.page)
    live.await_chain(id)
    return Twins(live, open_tab(demo.page), id)


@pytest.fixture
def second(demo: Demo) -> Iterator[Callable[[str], None]]:
    """Start a standby worker of a kind; it is killed after the test."""
    started: list[str] = []

    def start(name: str) -> None:
        started.append(f"{name}-2")
        demo.launch(started[-1], name)
        wait_until(lambda: demo.connected()[f"service-{name}"] == 2, "it stands by")

    yield start
    for name in started:
        demo.programs.pop(name).kill()


@pytest.mark.parametrize(("service", "fault", "when"), SCENARIOS, ids=lambda part: part)
def test_a_page_open_all_the_time_and_one_opened_later_show_the_same(
    demo: Demo, twins: Twins, second: Callable[[str], None], service: str, fault: str, when: str
) -> None:
    struck = demo.server if service == SERVER else demo.programs[service]
    live, id = twins.live, twins.id
    length = {"running": WORK} if when == "running" else {"pause": LONG}
    if fault == "freeze" and service in ("bar", "baz"):
        second(service)

    if when != "idle":
        demo.send(id, **length)
        kind = "running" if when == "running" else "suspended"
        expect(live.stripe("bar", kind)).to_be_visible()
        expect(live.row("baz").locator(".row-result")).to_have_text("1")
        if fault == "kill":  # before that, the cases do not differ
            twins.agree("before the fault")
    if fault == "kill":
        struck.kill()
    else:
        struck.freeze()
    if when == "idle":
        demo.send(id, **length)
    if service != SERVER:
        twins.agree("while the fault lasts")
    if service == SERVER and fault == "kill":
        demo.server.start()  # the page may not have noticed yet, so its status says nothing
    elif fault == "kill":
        struck.launch()
    else:
        live.page.wait_for_timeout(PAUSE_MS if fault == "pause" else FREEZE_MS)
        struck.thaw()
    expect(live.find("#status")).to_have_attribute("data-state", "live")
    twins.agree("after the fault")
    if when != "running":
        demo.client().end_sleep(id)
    live.says("Resolved: 3")
    twins.agree("at the end")


def test_a_worker_whose_stream_broke_is_shown_as_away_on_both_pages_before_it_is_given_up(
    start: Start, open_tab: OpenTab, id: str
) -> None:
    """This worker does not promise to return at once."""
    server = start(RESONATE_TASKS__WORKER_GRACE="3600000")
    home = f"{server.url}/ui/"
    twins = Twins(open_tab(home), open_tab(home), id)
    twins.live.await_chain(id)
    worker = Stream(server.port, "at-work", "stock")
    create(server.client(), id, target="poll://any@at-work")
    worker.message()
    server.client().call("task.acquire", id=id, version=0, pid="stock", ttl=3_600_000)
    row = twins.live.find("#timeline .row")
    expect(row.locator(".stripe[data-kind=running][data-open]")).to_be_visible()

    worker.close()

    expect(row.locator(".stripe[data-kind=gap][data-reason=silent][data-open]")).to_be_visible()
    twins.agree("in the grace period")


def test_a_server_outage_is_drawn_with_its_length_and_the_page_recovers_by_itself(demo: Demo, twins: Twins) -> None:
    live = twins.live
    live.suspend(demo, twins.id)
    live.script("window.loaded = 'once'")

    demo.server.kill()
    live.says("The server has been away for")
    expect(live.find("#status-text")).to_contain_text("Stale since")
    demo.server.start()
    demo.client().create(f"{twins.id}-meanwhile")

    expect(live.find("#status")).to_have_attribute("data-state", "live")
    expect(live.find(f"#chains [data-chain={twins.id}-meanwhile]")).to_be_visible()
    expect(live.find("#outages .outage").first).to_contain_text("server away")
    expect(live.find("#log li", "the server is back after").first).to_be_visible()
    twins.agree("after the outage")
    live.resume(demo, twins.id)
    expect(live.find(f"#chains [data-chain={twins.id}]")).to_have_attribute("data-state", "resolved")
    assert live.script("window.loaded") == "once"


def test_page_tree_and_report_number_attempts_alike(demo: Demo, twins: Twins) -> None:
    live, id = twins.live, twins.id
    demo.send(id, running=2 * WORK)
    expect(live.stripe("work", "running")).to_be_visible()
    demo.kill("bar")
    demo.launch("bar")
    live.says("Resolved: 3")

    tree = CliRunner().invoke(main, ["tree", id, "-S", demo.server.url]).stdout
    logs = "".join((demo.folder / f"{name}.log").read_text() for name in ("foo", "bar", "baz"))
    report = CliRunner().invoke(main, ["report", id, "-S", demo.server.url], input=logs).stdout

    expect(live.row("bar").locator(".row-attempt")).to_have_text("2")
    assert "fulfilled, attempt 2" in next(line for line in tree.splitlines() if "bar" in line)
    assert "bar 2 (its work: 2)" in report  # two runs, one in each attempt
    expect(live.find("#story-more")).to_contain_text("continued bar in attempt 2")
    assert " ".join(live.find("#story bdi").all_text_contents()) in tree
