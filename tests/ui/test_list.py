"""A long list of chains is loaded page by page, and only visible rows exist in the document."""

import re

import pytest
from harness.basics import wait_until
from playwright.sync_api import Route, expect

from ui.browser import PATIENCE_MS, Tab
from ui.conftest import OpenTab, Start
from ui.demo import create, settle

pytestmark = [pytest.mark.long, pytest.mark.browser]

MANY = 1_000


@pytest.fixture(scope="module")
def full(start: Start) -> str:
    """The page of a server with many chains; every tenth is resolved, and the last one calls another function."""
    server = start()
    client = server.client()
    for number in range(MANY):
        func = "needle" if number == MANY - 1 else "hay"
        create(client, f"many-{number:04}", {"func": func}, target="poll://any@nobody")
        if number % 10 == 0:
            settle(client, f"many-{number:04}", number)
    return f"{server.url}/ui/"


@pytest.fixture
def tab(full: str, open_tab: OpenTab) -> Tab:
    tab = open_tab(full)
    tab.open()
    expect(tab.find("#chains [data-chain]").first).to_be_visible()
    return tab


def is_scrolled_to_the_end(tab: Tab) -> bool:
    tab.script("document.querySelector('#chains').scrollTop = 1e9")
    return tab.find("#chains [data-chain=many-0000]").is_visible()


def test_the_newest_are_first_older_ones_load_on_request_or_while_scrolling_and_few_rows_exist(tab: Tab) -> None:
    """This server has no actions, so its page has no panel for them."""
    expect(tab.find("#top button")).to_have_count(2)  # theme and help
    expect(tab.find("#actions-trouble")).to_be_hidden()
    assert "foo" not in tab.find("body").inner_text()
    expect(tab.find("#chains [data-chain=many-0999]")).to_be_visible()
    expect(tab.find("#chains-count")).to_have_text("50+")
    tab.find("#older").click()
    expect(tab.find("#chains-count")).to_have_text("100+")

    wait_until(lambda: is_scrolled_to_the_end(tab), "all are listed", PATIENCE_MS / 1_000)
    expect(tab.find("#chains-count")).to_have_text(str(MANY))
    expect(tab.find("#chains [data-chain=many-0000]")).to_be_visible()
    expect(tab.find("#older")).to_be_disabled()
    assert tab.find("#chains [data-chain]").count() < 60


def test_a_search_that_the_server_cuts_short_continues_until_something_is_found(tab: Tab) -> None:
    def find_nothing_yet(route: Route) -> None:
        newest = route.fetch(url=f"{tab.home}api/chains?limit=1").json()
        route.fulfill(json={**newest, "chains": []})

    tab.page.route("**/api/chains?*many-0123*", find_nothing_yet, times=1)
    tab.find("#filter").fill("many-0123")

    expect(tab.find("#chains [data-chain=many-0123]")).to_be_visible()


def test_they_can_be_filtered_by_id_function_and_state(tab: Tab) -> None:
    tab.find("#filter").fill("many-0123")
    expect(tab.find("#chains [data-chain=many-0123]")).to_be_visible()
    expect(tab.find("#chains-count")).to_have_text(re.compile(r"^1\+?$"))

    tab.find("#filter").fill("NEEDLE")
    expect(tab.find("#chains [data-chain]")).to_have_count(1)
    expect(tab.find("#chains [data-chain=many-0999]")).to_be_visible()

    tab.find("#filter").fill("")
    tab.find("#state-filter").select_option("resolved")
    expect(tab.find("#chains [data-chain=many-0990]")).to_be_visible()
    expect(tab.find("#chains [data-chain]:not([data-state=resolved])")).to_have_count(0)

    tab.find("#filter").fill("such an id is not there")
    expect(tab.find("#chains-empty")).to_have_text("No chain fits the filter.")


def test_follow_shows_the_newest_chain_once_the_filter_is_cleared(tab: Tab) -> None:
    tab.find("#filter").fill("many-0500")
    tab.find("#chains [data-chain=many-0500]").click()
    expect(tab.find("#chain-id")).to_have_text("many-0500")
    tab.find("#follow").click()
    tab.find("#filter").fill("")

    expect(tab.find("#chain-id")).to_have_text("many-0999")
