"""What the page shows as soon as it is opened, when it or an answer fails to load, and while it is out of sight."""

from collections.abc import Callable

import pytest
from harness.basics import wait_until
from playwright.sync_api import Route, expect

from ui.browser import Tab
from ui.demo import Demo, create, settle

pytestmark = pytest.mark.browser


@pytest.fixture
def broken(tab: Tab) -> Tab:
    """A tab that may have errors in its console."""
    tab.may_fail = True
    return tab


FAULTS: dict[str, tuple[Callable[[Route], None], str]] = {
    "missing": (lambda route: route.fulfill(status=404), "chain.js is answered with status 404"),
    "cut off": (lambda route: route.abort(), "chain.js has not come"),
    "no script": (lambda route: route.fulfill(body="export const = 1", content_type="text/javascript"), "(chain.js)"),
    "of another version": (lambda route: route.fulfill(body="", content_type="text/javascript"), "model/chain.js"),
    "never answered": (lambda _: None, "has not come"),
}


@pytest.mark.parametrize(("fault", "told"), FAULTS.values(), ids=FAULTS.keys())
def test_a_module_that_fails_to_load_is_reported(broken: Tab, fault: Callable[[Route], None], told: str) -> None:
    broken.page.route("**/model/chain.js", fault)
    broken.page.goto(broken.home, wait_until="commit")

    expect(broken.find("#status-text")).to_contain_text("This page did not load")
    expect(broken.find("#status-text")).to_contain_text(told)
    broken.page.unroute_all(behavior="ignoreErrors")


def test_the_page_does_not_claim_that_there_is_no_chain_before_it_knows(demo: Demo, tab: Tab, id: str) -> None:
    demo.send(id)
    wait_until(lambda: demo.client().state(id) == "resolved", "foo answers")
    held: list[Route] = []
    tab.page.route("**/api/chains*", lambda route: held.append(route))
    with tab.page.expect_request("**/api/chains*"):
        tab.page.goto(tab.home, wait_until="commit")

    expect(tab.find("#status-text")).to_contain_text("Live")
    expect(tab.find("#chain-title")).to_have_text("Loading …")
    held[0].continue_()
    expect(tab.find("#chain-title")).to_have_text("foo")


def test_the_log_shows_what_happened_before_the_page_was_opened(demo: Demo, tab: Tab, id: str) -> None:
    demo.send(id)
    wait_until(lambda: demo.client().state(id) == "resolved", "foo answers")
    tab.open()

    for said in (f"foo called: {id}", "bar runs", "foo resolved: 3"):
        expect(tab.find("#log li", said).first).to_be_visible()
    expect(tab.find("#announce")).to_be_empty()


def test_a_chain_and_a_list_that_could_not_be_read_are_read_again(demo: Demo, tab: Tab, id: str) -> None:
    """The answers that are missing are those after the last event: nothing else would lead to them."""
    client = demo.client()
    create(client, id)
    tab.may_lack_answers = True
    for path in ("chains", "chain"):
        tab.page.route(f"**/api/{path}?*", lambda route: route.fulfill(status=502, body="<p>Bad gateway"), times=1)
    tab.open(id)
    expect(tab.find("#chain-id")).to_have_text(id)
    expect(tab.find(f"#chains [data-chain={id}]")).to_be_visible()

    tab.page.route("**/api/chain?*", lambda route: route.fulfill(body="<p>Log in"), times=1)
    settle(client, id, 7)
    expect(tab.find("#notice-text")).to_have_text("The server does not answer")
    tab.says("Resolved: 7")


def test_a_filtered_list_follows_what_begins_and_ends(demo: Demo, tab: Tab, id: str) -> None:
    tab.open()
    tab.find("#state-filter").select_option("pending")
    tab.find("#filter").fill(id)
    expect(tab.find("#chains-empty")).to_have_text("No chain fits the filter.")
    create(demo.client(), id)
    expect(tab.find(f"#chains [data-chain={id}]")).to_be_visible()
    settle(demo.client(), id, 7)
    expect(tab.find(f"#chains [data-chain={id}]")).to_have_count(0)


def test_a_tab_out_of_sight_leaves_its_connection_to_others(demo: Demo, tab: Tab, id: str) -> None:
    """Six of them would keep the seventh from loading: browsers open no more connections to one server."""
    client = demo.client()
    create(client, id)
    tab.page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => window.isOutOfSight === true })")
    tab.open(id)
    turn = "isOutOfSight = {}; document.dispatchEvent(new Event('visibilitychange'))"
    with tab.page.expect_event("requestfailed", lambda request: "/api/events" in request.url):
        tab.script(turn.format("true"))
    settle(client, id, 7)
    tab.script(turn.format("false"))

    tab.says("Resolved: 7")
    expect(tab.find("#status")).to_have_attribute("data-state", "live")


def test_the_seventh_window_in_sight_loads_says_why_it_is_not_live_and_takes_the_next_free_place(
    demo: Demo, tab: Tab
) -> None:
    tabs = [tab, *(Tab(tab.page.context.new_page(), demo.page) for _ in range(6))]
    for each in tabs[:5]:
        each.open()
    for each in tabs[5:]:
        each.visit()
        expect(each.find("#notice")).to_contain_text("5 other windows")
    tabs[0].page.close()
    tabs[1].page.close()
    for each in tabs[2:]:
        expect(each.find("#status")).to_have_attribute("data-state", "live")


def test_a_chain_that_is_gone_is_no_longer_shown(demo: Demo, tab: Tab, id: str) -> None:
    """As after a restart with another database, when the status says Live again."""
    create(demo.client(), id)
    tab.may_lack_answers = True
    tab.open(id)
    expect(tab.find("#chain-id")).to_have_text(id)
    tab.page.route("**/api/chain?*", lambda route: route.fulfill(status=404, json={"error": "there is none"}))
    settle(demo.client(), id, 7)

    expect(tab.find("#notice")).to_contain_text(f"There is no chain {id}")
    expect(tab.find("#chain-title")).to_have_text("No chain yet")
    expect(tab.find("#timeline .row")).to_have_count(0)
