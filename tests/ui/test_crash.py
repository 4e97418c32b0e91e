"""The demonstration for a colleague: a chain grows, bar is killed, bar returns, and the chain continues."""

import re

import pytest
from playwright.sync_api import expect

from ui.browser import Tab
from ui.conftest import OpenTab
from ui.demo import Demo

pytestmark = [pytest.mark.long, pytest.mark.browser]

LONG = 60
"""Seconds; the test itself ends a pause this long."""
RUNNING = ".stripe[data-kind=running]"
GAP = ".stripe[data-kind=gap][data-open]"
BREAK = ".stripe[data-kind=broken]"


@pytest.fixture
def tab(demo: Demo, open_tab: OpenTab) -> Tab:
    """With full motion, as most users have it."""
    return open_tab(demo.page, reduced_motion="no-preference")


def test_a_chain_appears_and_ends_without_a_reload(demo: Demo, tab: Tab, id: str) -> None:
    tab.open()
    tab.script("window.loaded = 'once'")

    demo.send(id, pause=LONG)

    expect(tab.find(f"#chains [data-chain={id}]")).to_have_attribute("data-state", "pending")
    expect(tab.find("#timeline .row-name")).to_have_text(["foo", "bar", "baz", re.compile("^sleep ")])
    expect(tab.find("#now")).to_be_visible()
    demo.client().end_sleep(id)
    expect(tab.find("#headline-text")).to_contain_text("Resolved: 3")
    expect(tab.find(f"#chains [data-chain={id}]")).to_have_attribute("data-state", "resolved")
    expect(tab.find("#now")).to_be_hidden()
    assert [tab.row(name).locator(".row-result").inner_text() for name in ("foo", "bar", "baz")] == ["3", "2", "1"]
    assert tab.script("window.loaded") == "once"


def test_the_work_of_a_killed_bar_breaks_off_and_another_bar_repeats_it(demo: Demo, tab: Tab, id: str) -> None:
    tab.await_chain(id)
    demo.send(id, running=10)
    bar = tab.row("bar")
    expect(bar.locator(f"{RUNNING}[data-open]")).to_have_attribute("data-attempt", "1")

    demo.kill("bar")

    expect(bar.locator(BREAK)).to_be_visible()
    expect(bar.locator(GAP)).to_be_visible()
    expect(tab.find("#headline")).to_have_attribute("data-tone", "gap")
    expect(tab.find("#log li[data-kind='worker.left']").first).to_contain_text("gone: connection closed")
    expect(bar.locator(GAP)).to_contain_text("waiting for service-bar")
    expect(tab.find("[data-group=service-bar]")).to_have_attribute("data-empty", "")

    demo.launch("bar")

    shades = [bar.locator(f"{RUNNING}[data-attempt='{attempt}']").first for attempt in (1, 2)]
    expect(shades[1]).to_be_visible()
    assert shades[0].get_attribute("data-shade") != shades[1].get_attribute("data-shade")
    expect(tab.find("#headline-text")).to_contain_text("Resolved: 3")
    expect(tab.row("foo").locator(".row-result")).to_have_text("3")
    expect(bar.locator(BREAK)).to_have_count(1)


def test_a_bar_killed_while_it_sleeps_is_shown_as_missing_and_nothing_is_lost(demo: Demo, tab: Tab, id: str) -> None:
    tab.await_chain(id)
    demo.send(id, pause=LONG)
    bar = tab.row("bar")
    expect(bar.locator(".stripe[data-kind=suspended][data-open]")).to_be_visible()

    demo.kill("bar")

    expect(bar.locator(GAP)).to_be_visible()
    expect(bar.locator(GAP)).to_contain_text("nothing is lost")
    expect(tab.find("#headline-text")).to_contain_text("No bar is connected")

    demo.launch("bar")
    demo.client().end_sleep(id)

    expect(tab.find("#headline-text")).to_contain_text("Resolved: 3")
    expect(tab.row("baz").locator(RUNNING)).to_have_count(1)


def test_the_commands_that_break_something_can_be_copied(tab: Tab) -> None:
    tab.open()
    tab.find("#action-break").click()

    expect(tab.find("#commands-break")).to_be_visible()
    expect(tab.find("#commands-break code").first).to_contain_text("bar")
