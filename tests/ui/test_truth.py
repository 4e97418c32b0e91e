"""The page says what happened and why: after a crash, during a wait, and after a failure."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from harness.basics import wait_until
from harness.page import Page
from harness.server import Client
from harness.stream import Stream
from playwright.sync_api import expect

from ui.browser import Tab
from ui.conftest import OpenTab
from ui.demo import Demo, create, settle

pytestmark = [pytest.mark.long, pytest.mark.browser]

PID = "7a7a7a7a7a7a"
LEASE_MS = 40_000
"""Long enough for a worker to be visibly late before it loses its lease."""

CUT = """() => {
  const within = (one, other) => one.left >= other.left - 1 && one.right <= other.right + 1;
  const overflows = (node) => node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).overflowX !== "visible";
  const labels = ["#timeline .parts > span", "#headline-text", "#story bdi", "#groups :is(.word, .waiting, h3 small)"];
  const shown = [...document.querySelectorAll(labels.join())].filter((node) => node.checkVisibility());
  const isSeen = (node) => {  // a part that has wrapped out of its line is not
    const [own, line] = [node.getBoundingClientRect(), node.parentElement.getBoundingClientRect()];
    return !node.parentElement.matches(".parts") || own.top < line.bottom - 2;
  };
  return shown.filter((node) => node.textContent && isSeen(node)).filter((node) => {
    const own = node.getBoundingClientRect();
    return overflows(node) || !within(own, node.parentElement.getBoundingClientRect()) || own.right > innerWidth + 1;
  }).map((node) => node.textContent);
}"""
"""Labels that are partly out of sight."""

OUT_OF_HEADINGS = """() => {
  const pane = document.querySelector("#pane-timeline").getBoundingClientRect();
  const cut = (node) => node.scrollWidth > node.clientWidth + 1 && node.clientWidth > 0;
  const heads = ":is(.chain-line, .chain-ids, .detail-head) > :is(.state, .big-number, button)";
  return [...document.querySelectorAll(heads)].filter((node) => {
    const own = node.getBoundingClientRect();
    return cut(node) || own.left < pane.left || own.right > pane.right;
  }).map((node) => node.textContent);
}"""
"""Elements beside a name that are not fully visible."""


@pytest.fixture
def client(demo: Demo) -> Client:
    return demo.client()


@pytest.fixture
def worker(demo: Demo, id: str) -> Iterator[str]:
    """A group with one worker that does nothing by itself."""
    group = f"service-of-{id}"
    stream = Stream(demo.server.port, group, PID)
    yield group
    stream.close()


def held(client: Client, id: str, group: str, ttl: int = LEASE_MS, version: int = 0) -> None:
    reply = client.call("task.acquire", id=id, version=version, pid=PID, ttl=ttl)
    assert reply.status == 200, (group, reply)


def given_back(client: Client, id: str, times: int, reason: str) -> None:
    for version in range(times):
        held(client, id, "", version=version)
        assert client.call("task.release", id=id, version=version + 1, reason=reason).status == 200


def call(client: Client, id: str, group: str, func: str = "brew", **tags: str) -> None:
    create(
        client, id, {"func": func, "args": [1, {"size": "large"}], "version": 1}, target=f"poll://any@{group}", **tags
    )


# ── after a crash ──


@pytest.fixture(scope="module")
def crashed(running_demo: Demo) -> str:
    """A finished chain in which bar was killed at work."""
    demo, id = running_demo, "crashed-at-work"
    page = Page(demo.server.port)

    def state_of(func: str) -> str:
        promises = page.get("/ui/api/chain", id=id).json.get("promises", [])
        return next((promise["state"] for promise in promises if promise["func"] == func), "")

    demo.send(id, running=15)
    wait_until(lambda: (state_of("work"), state_of("baz")) == ("pending", "resolved"), "bar is at work, baz is done")
    demo.kill("bar")
    demo.launch("bar")
    wait_until(lambda: state_of("foo") == "resolved", "it is over", 120)
    return id


def test_after_a_crash_one_paragraph_that_can_be_copied_says_what_happened(
    crashed: str, demo: Demo, open_tab: OpenTab
) -> None:
    tab = open_tab(demo.page, permissions=["clipboard-read", "clipboard-write"])
    tab.open(crashed)

    expect(tab.find("#story-first")).to_contain_text(
        re.compile(r"^Worker .* of service-bar was gone .*s after the chain")
    )
    for said in (
        "continued bar in attempt 2",
        "The server kept the unfinished calls of foo and bar, and baz's result 1; no call was made a second time.",
        "work, a step of bar, ran again from the beginning, because the first run had not finished.",
        "The chain was resolved after",
    ):
        expect(tab.find("#story-more")).to_contain_text(said)
    tab.find("#story-copy").click()
    expect(tab.find("#story-copy")).to_have_text("Copied")
    assert tab.script("navigator.clipboard.readText()") == " ".join(tab.find("#story bdi").all_text_contents())


def test_an_attempt_that_continues_is_distinguished_from_one_that_repeats(crashed: str, tab: Tab) -> None:
    tab.open(crashed)
    went_on, again = tab.row("foo").locator(".row-attempt"), tab.row("bar").locator(".row-attempt")

    expect(went_on).to_have_attribute("data-mark", "on")
    expect(went_on).to_have_attribute("title", re.compile("continues after waiting"))
    expect(went_on).to_have_attribute("data-shade", "1")
    expect(again).to_have_attribute("data-mark", "again")
    expect(again).to_have_attribute("title", re.compile("as its worker was gone"))
    expect(again).to_have_attribute("data-shade", "2")


# ── while it waits ──


def test_a_released_task_says_why_and_counts_down_to_the_next_attempt(
    client: Client, tab: Tab, id: str, worker: str
) -> None:
    call(client, id, worker)
    given_back(client, id, 7, "ValueError: no milk")
    tab.open(id)
    stripe = tab.stripe("brew", "waiting")

    def seconds_left() -> int:
        return int(([*re.findall(r"next attempt in (\d+) s", stripe.text_content() or ""), "0"])[0])

    expect(stripe).to_contain_text("claimed 7 times, next attempt in")
    expect(stripe).to_contain_text("ValueError: no milk")
    tab.says("next attempt")
    first = seconds_left()
    wait_until(lambda: seconds_left() < first, "it counts down")


FLAGS: dict[str, tuple[str, str]] = {
    "unclaimed": ("claimed by nobody", "handed out"),
    "misfit": ("code does not fit", "the code of brew changed"),
    "returned": ("given back", "no milk"),
    "person": ("waits for a person", "to be settled"),
    "halted": ("halted", "by an operator"),
    "gap": ("no worker", "connected"),
}


def bring_about(client: Client, flag: str, id: str, group: str) -> None:
    if flag == "person":
        create(client, id, external="true")
        return
    call(client, id, "nobody" if flag == "gap" else group)
    match flag:
        case "misfit":
            given_back(client, id, 7, "the code of brew changed while brew was under way: step 1 was run pay")
        case "returned":
            given_back(client, id, 7, "no milk")
        case "halted":
            assert client.call("task.halt", id=id).status == 200


def test_a_call_held_by_a_worker_with_a_late_heartbeat_is_marked(
    client: Client, tab: Tab, id: str, worker: str
) -> None:
    call(client, id, worker)
    held(client, id, worker)
    tab.open(id)
    row = tab.row("brew")

    expect(row).to_have_attribute("data-flag", "late")
    expect(row.locator(".row-result")).to_have_text("heartbeat late")
    client.call("task.heartbeat", pid=PID, tasks=[{"id": id, "version": 1}])
    expect(row).not_to_have_attribute("data-flag", "late")


# ── when it has failed ──


def test_a_failure_is_shown_by_type_message_and_place_without_any_pickle(
    client: Client, tab: Tab, id: str, worker: str
) -> None:
    pickle = "gASVKgAAAAAAAACMCGJ1aWx0aW5zlIwKVmFsdWVFcnJvcpSTlIwIbm8gc3RvY2uUhZRSlC4="
    failure = {"__type": "error", "message": "no stock", "__py_pickle": pickle}
    call(client, id, worker, "order")
    call(client, f"{id}.1", worker, "reserve", origin=id, parent=id)
    for each in (f"{id}.1", id):
        settle(client, each, failure, "rejected")
    tab.open(id)
    detail = tab.find("#detail")

    tab.says("Rejected: no stock")
    expect(detail.locator("dl", has_text="Message")).to_contain_text("ValueError")
    expect(detail.locator("div", has_text=re.compile("^Where")).last).to_contain_text(f"reserve ({id}.1)")
    expect(detail.get_by_role("button", name="Copy the message")).to_be_visible()
    expect(tab.row("order").locator(".row-result")).to_contain_text("rejected")
    assert pickle[:20] not in tab.find("body").inner_text()


# ── labels, names and copies ──


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=str)
def test_what_blocks_a_call_is_visible_at_a_glance_announced_and_never_cut(
    demo: Demo, client: Client, open_tab: OpenTab, id: str, worker: str, size: tuple[int, int]
) -> None:
    tab = open_tab(demo.page, viewport={"width": size[0], "height": size[1]})
    tab.suspend(demo, id)
    demo.kill("bar")
    expect(tab.row("bar").locator(".row-result")).to_have_text("no worker")
    for flag in FLAGS:
        bring_about(client, flag, f"{id}-{flag}", worker)

    assert tab.script(CUT) == []
    for flag, (words, why) in FLAGS.items():
        tab.open(f"{id}-{flag}")
        row = tab.find("#timeline .row").first
        expect(row).to_have_attribute("data-flag", flag)
        expect(row.locator(".row-result")).to_have_text(words)
        expect(row).to_have_attribute("aria-label", re.compile(words))
        expect(row.locator(".stripe").last).to_contain_text(why)
        assert tab.script(CUT) == [], flag
    demo.client().end_sleep(id)


@pytest.mark.parametrize("name", ["reserve_inventory_for_order", "W" * 100])
@pytest.mark.parametrize("width", [1000, 380])
def test_headings_show_state_and_time_in_full_beside_a_long_name(
    demo: Demo, client: Client, open_tab: OpenTab, id: str, name: str, width: int
) -> None:
    tab = open_tab(demo.page, viewport={"width": width, "height": 800})
    long = f"{id}-{'very-long-' * 15}"
    call(client, long, f"group-of-{id}", name)
    tab.open(long)
    if width < 760:
        tab.find("#tabs [data-pane=timeline]").click()

    expect(tab.find("#chain-duration")).to_contain_text("s")
    expect(tab.find("#detail .state")).to_have_text("pending")
    assert tab.script(OUT_OF_HEADINGS) == []


def test_a_long_id_is_cut_in_the_middle_and_copied_whole(demo: Demo, open_tab: OpenTab, id: str) -> None:
    tab = open_tab(demo.page, permissions=["clipboard-read", "clipboard-write"])
    long = f"{id}-{'very-long-' * 15}END-7"
    create(demo.client(), long)
    tab.open(long)
    end = tab.find("#chain-id span").last

    expect(end).to_have_text(long[-6:])
    assert end.evaluate(
        "(node) => node.getBoundingClientRect().right <= node.parentElement.getBoundingClientRect().right + 1"
    )
    tab.find("#copy-id").click()
    expect(tab.find("#copy-id")).to_have_text("Copied")
    assert tab.script("navigator.clipboard.readText()") == long


def test_arguments_and_results_unfold_and_can_be_copied(
    demo: Demo, open_tab: OpenTab, client: Client, id: str, worker: str
) -> None:
    tab = open_tab(demo.page, permissions=["clipboard-read", "clipboard-write"])
    call(client, id, worker)
    settle(client, id, {"cups": 2})
    tab.open(id)
    arguments = tab.find("#detail details", "Arguments")

    expect(arguments.locator("pre")).to_have_text('[1,{"size":"large"}]')
    arguments.locator("summary").click()
    expect(arguments.locator("pre")).to_be_hidden()
    expect(arguments.locator("summary bdi")).to_have_text('[1,{"size":"large"}]')
    tab.find("#detail details", "Result").get_by_role("button", name="Copy: Result").click()
    expect(tab.find("#detail details", "Result").locator("button")).to_have_text("Copied")
    assert tab.script("navigator.clipboard.readText()") == '{"cups": 2}'


# ── long chains ──


@pytest.fixture(scope="module")
def many(running_demo: Demo) -> str:
    """A chain of 200 calls to two services; one of them has failed."""
    client, root = running_demo.client(), "many-calls"
    call(client, root, "service-many", "batch")
    for number in range(200):
        func = "pay" if number % 2 else "ship"
        id = f"{root}.{number}"
        call(client, id, f"service-{func}", func, origin=root, parent=root)
        failure: dict[str, Any] = {"__type": "error", "message": "card was declined"}
        if number == 177:
            settle(client, id, failure, "rejected")
        else:
            settle(client, id, number)
    settle(client, root, "all sent")
    return root


@pytest.fixture
def long_tab(many: str, tab: Tab) -> Tab:
    tab.open(many)
    expect(tab.find("#timeline .row").first).to_have_attribute("aria-setsize", "201")
    return tab


def test_only_visible_rows_are_drawn_and_a_dense_view_shows_more(long_tab: Tab) -> None:
    assert long_tab.find("#timeline .row").count() < 60
    height = "document.querySelector('#timeline .row').offsetHeight"
    before = long_tab.script(height)
    long_tab.find("#dense").click()

    expect(long_tab.find("#dense")).to_have_attribute("aria-pressed", "true")
    wait_until(lambda: long_tab.script(height) < before / 1.5, "rows are lower")


def test_calls_of_one_service_are_folded_into_a_row_that_opens(long_tab: Tab) -> None:
    long_tab.find("#fold").click()

    expect(long_tab.find("#timeline .row-name")).to_have_text(["batch", "ship", "pay"])
    expect(long_tab.row("pay").locator(".stripe[data-kind=fold]")).to_contain_text("100 calls, 1 rejected, 99 resolved")
    expect(long_tab.row("pay")).to_have_attribute("aria-expanded", "false")
    long_tab.row("ship").click()
    expect(long_tab.row("ship").first).to_have_attribute("aria-expanded", "true")
    expect(long_tab.find("#timeline .row").first).to_have_attribute("aria-setsize", "103")


def test_a_button_jumps_to_a_failed_call_even_if_it_is_folded(long_tab: Tab, many: str) -> None:
    long_tab.find("#fold").click()
    expect(long_tab.find("#faults")).to_have_text("Next problem (1)")
    long_tab.find("#faults").click()

    expect(long_tab.find(f"#timeline .row[data-promise='{many}.177']")).to_be_focused()
    expect(long_tab.find("#detail")).to_contain_text("card was declined")


@pytest.mark.parametrize(
    ("text", "count"), [("many-calls.42", 1), ("PAY", 100), ("service-ship", 100), ("rejected", 1), ("nothing", 0)]
)
def test_calls_are_found_by_id_name_service_and_state(long_tab: Tab, text: str, count: int) -> None:
    long_tab.find("#find").fill(text)

    expect(long_tab.find("#find-count")).to_have_text(f"{count} of 201")


def test_enter_moves_from_one_match_to_the_next(long_tab: Tab, many: str) -> None:
    long_tab.find("#find").fill("pay")
    for number in (1, 3):
        long_tab.find("#find").press("Enter")
        expect(long_tab.find(f"#timeline .row[data-promise='{many}.{number}']")).to_have_attribute(
            "aria-selected", "true"
        )
        expect(long_tab.find(f"#timeline .row[data-promise='{many}.{number}']")).to_have_attribute("data-found", "")


def test_the_timeline_can_be_zoomed_moved_and_reset(long_tab: Tab) -> None:
    axis = "[...document.querySelectorAll('#axis .mark')].map((node) => node.textContent + node.style.left)"
    before = long_tab.script(axis)
    expect(long_tab.find("#zoom-all")).to_be_disabled()
    for _ in range(3):
        long_tab.find("#zoom-in").click()
    wait_until(lambda: long_tab.script(axis) != before, "it is closer")

    closer = long_tab.script(axis)
    long_tab.find("#timeline .row").first.focus()
    long_tab.press("Shift+ArrowRight")
    wait_until(lambda: long_tab.script(axis) != closer, "it moves")
    long_tab.find("#zoom-all").click()
    wait_until(lambda: long_tab.script(axis) == before, "all is seen")
    expect(long_tab.find("#zoom-all")).to_be_disabled()
