"""A demonstration: a chain grows, buttons beside the workers kill and freeze them, and the chain continues."""

import re

import pytest
from playwright.sync_api import Locator, expect

from ui.browser import Tab
from ui.conftest import OpenTab
from ui.demo import LONG, Demo

pytestmark = [pytest.mark.long, pytest.mark.browser]

BREAK = ".stripe[data-kind=broken]"
RUNNING = ".stripe[data-kind=running]"


def buttons(tab: Tab, group: str) -> Locator:
    """Return the buttons beside the only connected worker of the group."""
    return tab.find(f"[data-group={group}] [data-state=connected] button")


def button(tab: Tab, name: str, group: str = "service-bar") -> Locator:
    return tab.find(f"[data-group={group}] [data-state=connected] [data-action={name}]")


def start_again(demo: Demo, name: str) -> None:
    demo.kill(name)  # it is dead already
    demo.launch(name)


@pytest.fixture
def moving(demo: Demo, open_tab: OpenTab) -> Tab:
    """A tab with full motion, as most users have it."""
    return open_tab(demo.page, reduced_motion="no-preference")


def test_a_chain_appears_and_ends_without_a_reload(demo: Demo, moving: Tab, id: str) -> None:
    tab = moving
    tab.open()
    tab.script("window.loaded = 'once'")

    demo.send(id, pause=LONG)

    expect(tab.find(f"#chains [data-chain={id}]")).to_have_attribute("data-state", "pending")
    expect(tab.find("#timeline .row-name")).to_have_text(["foo", "bar", "baz", re.compile("^sleep ")])
    expect(tab.find("#now")).to_be_visible()
    tab.resume(demo, id)
    expect(tab.find(f"#chains [data-chain={id}]")).to_have_attribute("data-state", "resolved")
    expect(tab.find("#now")).to_be_hidden()
    assert [tab.row(name).locator(".row-result").inner_text() for name in ("foo", "bar", "baz")] == ["3", "2", "1"]
    expect(tab.find("#story")).to_be_hidden()
    assert tab.script("window.loaded") == "once"


def test_a_worker_is_killed_and_the_displayed_chain_continues_with_the_next(demo: Demo, tab: Tab, id: str) -> None:
    tab.suspend(demo, id)

    button(tab, "kill").click()

    expect(tab.find("#notice-text")).to_contain_text("scripts/up.sh")
    expect(tab.stripe("bar", "gap")).to_contain_text("nothing is lost")
    tab.says("No bar is connected")
    expect(tab.find("#chain-id")).to_have_text(id)
    expect(buttons(tab, "service-bar")).to_have_count(0)
    start_again(demo, "bar")
    tab.resume(demo, id)
    expect(tab.row("baz").locator(RUNNING)).to_have_count(1)
    tab.find("#chains [role=option]", "fail-").first.click()
    tab.says('Resolved: "survived"')


def test_a_worker_is_killed_as_soon_as_it_works_and_another_repeats_its_work(demo: Demo, moving: Tab) -> None:
    tab, bar = moving, moving.row("bar")
    tab.open()
    button(tab, "kill-at-work").click()
    expect(tab.find("#log li", "fail runs on")).not_to_have_count(0)
    expect(tab.find("#notice-text")).to_contain_text("as soon as it works")

    tab.find("#field-work-running").fill("10")
    tab.find("#action-work").click()

    expect(bar.locator(BREAK)).to_be_visible()
    expect(tab.stripe("bar", "gap")).to_contain_text("waiting for service-bar")
    expect(tab.find("#headline")).to_have_attribute("data-tone", "gap")
    expect(tab.find("#log li[data-kind='worker.left']").first).to_contain_text("gone: connection closed")
    expect(tab.find("[data-group=service-bar]")).to_have_attribute("data-lacking", "")
    start_again(demo, "bar")
    tab.says("Resolved: 3")
    expect(tab.row("foo").locator(".row-result")).to_have_text("3")
    expect(tab.row("work").locator(RUNNING)).to_have_count(2)
    expect(bar.locator(BREAK)).to_have_count(1)
    shades = [bar.locator(f"{RUNNING}[data-attempt='{attempt}']").first for attempt in (1, 2)]
    assert shades[0].get_attribute("data-shade") != shades[1].get_attribute("data-shade")


def test_a_frozen_worker_loses_its_tasks_and_comes_back_by_itself(demo: Demo, tab: Tab, id: str) -> None:
    tab.await_chain(id)
    demo.send(id, running=10)
    expect(tab.stripe("work", "running")).to_be_visible()

    button(tab, "freeze").click()

    expect(tab.row("bar").locator(BREAK)).to_be_visible()
    tab.says("Resolved: 3")
    expect(buttons(tab, "service-bar")).to_have_count(3)


def test_foo_is_killed_and_its_gunicorn_starts_another(demo: Demo, tab: Tab, id: str) -> None:  # noqa: ARG001
    tab.may_lack_answers = True  # foo may die before it has answered
    tab.open()
    before = tab.find("[data-group=service-foo] [data-state=connected]").get_attribute("data-worker")

    button(tab, "kill", "service-foo").click()

    expect(tab.find(f"[data-worker='{before}'][data-state=gone]")).to_be_visible()
    expect(buttons(tab, "service-foo")).to_have_count(2)


def test_everything_works_by_keyboard(demo: Demo, tab: Tab) -> None:
    tab.open()
    expect(button(tab, "kill")).to_be_visible()
    tab.tab_to("[data-group=service-bar] [data-action=kill]")
    tab.press("Enter")

    expect(buttons(tab, "service-bar")).to_have_count(0)
    expect(tab.find("#groups")).to_be_focused()
    start_again(demo, "bar")


@pytest.mark.usefixtures("demo")
def test_a_screen_reader_announces_which_worker_a_button_is_for(tab: Tab) -> None:
    tab.open()
    pid = tab.find("[data-group=service-bar] [data-state=connected] bdi").inner_text()
    for label in ("Kill", "Kill at work", "Freeze 15 s"):
        expect(tab.page.get_by_role("button", name=f"{label}: bar {pid}", exact=True)).to_be_visible()


@pytest.mark.parametrize("width", [1280, 820, 390])
def test_every_button_is_fully_visible(demo: Demo, open_tab: OpenTab, width: int) -> None:
    tab = open_tab(demo.page, viewport={"width": width, "height": 800})
    tab.open()
    if width == 390:
        tab.find("#tabs [data-pane=workers]").click()
    expect(button(tab, "kill")).to_be_visible()
    cut = "[...document.querySelectorAll('.acts button')].filter((node) => node.scrollWidth > node.clientWidth)"
    assert tab.script(f"{cut}.length") == 0
    wide = "[...document.querySelectorAll('#groups, #groups li')].filter((node) => node.scrollWidth > node.clientWidth)"
    assert tab.script(f"{wide}.length") == 0
    assert tab.width <= width
    actions = tab.find("#actions > button, #actions form")
    ends = actions.evaluate_all("(nodes) => nodes.map((node) => node.getBoundingClientRect().right)")
    assert max(ends) <= tab.script("document.querySelector('#actions').getBoundingClientRect().right")


@pytest.mark.usefixtures("demo")
def test_the_page_has_commands_to_break_something_and_says_how_to_switch_faults_off(tab: Tab) -> None:
    tab.open()
    tab.find("#action-break").click()
    expect(tab.find("#commands-break code").first).to_contain_text("bar")
    expect(tab.find("#commands-break")).to_contain_text("DEMO_FAULTS=0 scripts/up.sh")
