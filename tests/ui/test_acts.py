"""What a person may do with a call on the page: settle what waits for somebody, cancel, call again; each asked once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from ui.browser import Tab
from ui.conftest import OpenTab
from ui.demo import Demo, create, settle

pytestmark = [pytest.mark.long, pytest.mark.browser]

LONG = 60
"""Seconds: such a pause ends when the test ends it."""
EXAMPLE = Path(__file__).parents[2] / "examples/approval.py"


@pytest.fixture(scope="module")
def approver(running_demo: Demo) -> Iterator[None]:
    """A worker of the example in which a person decides."""
    worker = running_demo.launch("approval", str(EXAMPLE))
    yield
    worker.stop()


def ask_for_approval(demo: Demo, tab: Tab, id: str) -> None:
    """The page shows a call that waits for a person, and the promise that it waits for is chosen."""
    assert demo.client().begin(id, "example-approval", "approval", 100).status == 200
    tab.open(id)
    expect(tab.row("approval").locator(".stripe[data-kind=suspended][data-open]")).to_be_visible()
    tab.row("promise").click()
    expect(tab.find("#detail strong")).to_have_text("promise")


def choose(tab: Tab, name: str) -> None:
    tab.row(name).click()
    expect(tab.find("#detail strong")).to_have_text(name)


def do(tab: Tab, act: str, *, given: str | None = None) -> None:
    tab.find(f"#detail [data-act={act}]").click()
    if given is not None:
        tab.find("#act-field").fill(given)
    tab.find("#act-do").click()
    expect(tab.find("#act")).to_be_hidden()


@pytest.mark.usefixtures("approver")
class TestSettling:
    def test_a_person_approves_and_the_call_goes_on(self, demo: Demo, tab: Tab, id: str) -> None:
        ask_for_approval(demo, tab, id)
        do(tab, "approve")
        expect(tab.find("#headline-text")).to_contain_text('Resolved: "paid"')

    def test_a_person_may_give_another_value(self, demo: Demo, tab: Tab, id: str) -> None:
        ask_for_approval(demo, tab, id)
        do(tab, "approve", given="false")
        expect(tab.find("#headline-text")).to_contain_text('Resolved: "refused"')

    def test_a_person_rejects_with_a_reason_and_the_call_gets_it_as_an_error(
        self, demo: Demo, tab: Tab, id: str
    ) -> None:
        ask_for_approval(demo, tab, id)
        do(tab, "reject", given="zu teuer: 100 €")
        expect(tab.find("#headline-text")).to_contain_text("Rejected: zu teuer: 100 €")

    def test_it_is_asked_once_and_whoever_leaves_it_has_changed_nothing(self, demo: Demo, tab: Tab, id: str) -> None:
        ask_for_approval(demo, tab, id)
        for leave in ("Escape", "Enter"):
            tab.find("#detail [data-act=approve]").click()
            expect(tab.find("#act-title")).to_have_text("Approve: promise?")
            if leave == "Enter":
                tab.find("#act button", "Go back").focus()
            tab.press(leave)
            expect(tab.find("#act")).to_be_hidden()
            expect(tab.find("#detail [data-act=approve]")).to_be_focused()
        tab.page.reload()
        expect(tab.row("approval").locator(".stripe[data-kind=suspended][data-open]")).to_be_visible()
        assert demo.client().state(id) == "pending"

    def test_the_keyboard_is_enough(self, demo: Demo, tab: Tab, id: str) -> None:
        ask_for_approval(demo, tab, id)
        tab.row("promise").focus()
        while not tab.script("document.activeElement.matches('[data-act=approve]')"):
            tab.press("Tab")
        tab.press("Enter")
        expect(tab.find("#act-field")).to_be_focused()
        tab.press("Enter")
        expect(tab.find("#headline-text")).to_contain_text('Resolved: "paid"')
        expect(tab.find("#detail [data-act=approve]")).to_have_count(0)
        expect(tab.find("#detail")).to_be_focused()

    def test_a_telephone_is_enough(self, demo: Demo, open_tab: OpenTab, id: str) -> None:
        tab = open_tab(demo.page, viewport={"width": 390, "height": 800})
        ask_for_approval(demo, tab, id)
        tab.find("#detail [data-act=approve]").click()
        expect(tab.find("#act-do")).to_be_visible()
        box = tab.find("#act").bounding_box()
        assert box is not None
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
        tab.find("#act-do").click()
        expect(tab.find("#headline-text")).to_contain_text('Resolved: "paid"')

    def test_a_reader_hears_what_each_button_is_for(self, demo: Demo, tab: Tab, id: str) -> None:
        ask_for_approval(demo, tab, id)
        acts = tab.page.get_by_role("group", name="Act on promise")
        expect(acts.get_by_role("button")).to_have_text(["Approve", "Reject"])
        acts.get_by_role("button", name="Reject").click()
        asked = tab.page.get_by_role("dialog", name="Reject: promise?")
        expect(asked.get_by_label("Message")).to_have_value("rejected by a person")
        expect(asked.get_by_role("button", name="Reject")).to_be_visible()


def test_a_call_is_cancelled_and_its_caller_is_told(demo: Demo, tab: Tab, id: str) -> None:
    tab.await_chain(id)
    demo.send(id, pause=LONG)
    expect(tab.row("bar").locator(".stripe[data-kind=suspended][data-open]")).to_be_visible()
    choose(tab, "bar")
    do(tab, "cancel")

    expect(tab.find("#detail .state").first).to_have_text("cancelled")
    expect(tab.find("#headline-text")).to_contain_text("Rejected: cancelled by a person")
    expect(tab.find("#detail [data-act=cancel]")).to_have_count(0)


def test_who_comes_too_late_is_told(demo: Demo, tab: Tab, id: str) -> None:
    create(demo.client(), id, {"func": "slow"}, target="poll://any@nobody")
    tab.open(id)
    choose(tab, "slow")
    tab.find("#detail [data-act=cancel]").click()
    settle(demo.client(), id, 7)
    tab.find("#act-do").click()

    expect(tab.find("#notice-text")).to_have_text("Too late: it is already resolved")


def test_a_call_is_made_again_under_another_id(demo: Demo, tab: Tab, id: str) -> None:
    demo.send(id)
    tab.open(id)
    expect(tab.find("#headline-text")).to_contain_text("Resolved: 3")
    do(tab, "again", given=f"{id}-again")

    expect(tab.find("#chain-id")).to_have_text(f"{id}-again")
    expect(tab.find("#headline-text")).to_contain_text("Resolved: 3")
    expect(tab.find("#timeline .row-name")).to_have_text(["foo", "bar", "baz"])


def test_a_call_below_another_is_made_again_as_a_tree_of_its_own(demo: Demo, tab: Tab, id: str) -> None:
    demo.send(id)
    tab.open(id)
    expect(tab.find("#headline-text")).to_contain_text("Resolved: 3")
    choose(tab, "bar")
    do(tab, "again")

    expect(tab.find("#chain-title")).to_have_text("bar")
    expect(tab.find("#headline-text")).to_contain_text("Resolved: 2")
    expect(tab.find("#timeline .row-name")).to_have_text(["bar", "baz"])


def test_an_id_that_is_taken_is_not_taken_for_a_new_one(demo: Demo, tab: Tab, id: str) -> None:
    demo.send(id)
    tab.open(id)
    expect(tab.find("#headline-text")).to_contain_text("Resolved: 3")
    do(tab, "again", given=id)

    expect(tab.find("#notice-text")).to_have_text(f"The promise {id} already exists; choose another id")


def test_an_id_that_the_server_refuses_is_told_in_its_words(demo: Demo, tab: Tab, id: str) -> None:
    demo.send(id)
    tab.may_lack_answers = True
    tab.open(id)
    expect(tab.find("#headline-text")).to_contain_text("Resolved: 3")
    do(tab, "again", given=f"{id}:1:2")

    expect(tab.find("#notice-text")).to_contain_text("has no ':' in its id")


def test_what_is_over_and_what_runs_inside_another_call_is_left_alone(demo: Demo, tab: Tab, id: str) -> None:
    demo.send(id, running=0.1)
    create(demo.client(), f"{id}-done")
    demo.client().call("promise.settle", id=f"{id}-done", state="resolved", value={})
    tab.open(id)
    expect(tab.find("#headline-text")).to_contain_text("Resolved: 3")
    expect(tab.find("#detail [data-act]")).to_have_text(["Call again"])
    choose(tab, "work")
    expect(tab.find("#detail [data-act]")).to_have_count(0)
    tab.visit(f"{id}-done")
    expect(tab.find("#detail strong")).to_have_text("promise")
    expect(tab.find("#detail [data-act]")).to_have_count(0)
