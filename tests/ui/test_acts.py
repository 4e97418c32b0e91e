"""What a user may do with a call on the page: settle, cancel, or call again, each after one confirmation."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from ui.browser import Tab
from ui.conftest import OpenTab
from ui.demo import Demo, create, settle

pytestmark = [pytest.mark.long, pytest.mark.browser]

EXAMPLE = Path(__file__).parents[2] / "examples/approval.py"


@pytest.fixture(scope="module")
def approver(running_demo: Demo) -> Iterator[None]:
    """A worker of the example in which a person decides."""
    worker = running_demo.launch("approval", str(EXAMPLE))
    yield
    worker.stop()


def ask_for_approval(demo: Demo, tab: Tab, id: str) -> None:
    """Show a call that waits for a person, and choose the promise for which it waits."""
    assert demo.client().begin(id, "example-approval", "approval", 100).status == 200
    tab.open(id)
    expect(tab.stripe("approval", "suspended")).to_be_visible()
    tab.choose("promise")


@pytest.mark.usefixtures("approver")
class TestSettling:
    @pytest.mark.parametrize(
        ("act", "given", "outcome"),
        [
            pytest.param("approve", "false", 'Resolved: "refused"', id="gives another value"),
            pytest.param("reject", "zu teuer: 100 €", "Rejected: zu teuer: 100 €", id="rejects with a reason"),
        ],
    )
    def test_the_call_continues_with_what_a_person(
        self, demo: Demo, tab: Tab, id: str, act: str, given: str, outcome: str
    ) -> None:
        ask_for_approval(demo, tab, id)
        tab.act(act, given=given)
        tab.says(outcome)

    def test_there_is_one_confirmation_and_leaving_it_changes_nothing(self, demo: Demo, tab: Tab, id: str) -> None:
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
        expect(tab.stripe("approval", "suspended")).to_be_visible()
        assert demo.client().state(id) == "pending"

    def test_everything_works_by_keyboard(self, demo: Demo, tab: Tab, id: str) -> None:
        ask_for_approval(demo, tab, id)
        tab.row("promise").focus()
        tab.tab_to("[data-act=approve]")
        tab.press("Enter")
        expect(tab.find("#act-field")).to_be_focused()
        tab.press("Enter")
        tab.says('Resolved: "paid"')
        expect(tab.find("#detail [data-act=approve]")).to_have_count(0)
        expect(tab.find("#detail")).to_be_focused()

    def test_everything_works_on_a_phone(self, demo: Demo, open_tab: OpenTab, id: str) -> None:
        tab = open_tab(demo.page, viewport={"width": 390, "height": 800})
        ask_for_approval(demo, tab, id)
        tab.find("#detail [data-act=approve]").click()
        expect(tab.find("#act-do")).to_be_visible()
        box = tab.find("#act").bounding_box()
        assert box is not None
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
        tab.find("#act-do").click()
        tab.says('Resolved: "paid"')

    def test_a_screen_reader_announces_what_each_button_does(self, demo: Demo, tab: Tab, id: str) -> None:
        ask_for_approval(demo, tab, id)
        acts = tab.page.get_by_role("group", name="Act on promise")
        expect(acts.get_by_role("button")).to_have_text(["Approve", "Reject"])
        acts.get_by_role("button", name="Reject").click()
        asked = tab.page.get_by_role("dialog", name="Reject: promise?")
        expect(asked.get_by_label("Message")).to_have_value("rejected by a person")
        expect(asked.get_by_role("button", name="Reject")).to_be_visible()


def test_a_call_is_cancelled_and_its_caller_gets_the_error(demo: Demo, tab: Tab, id: str) -> None:
    tab.suspend(demo, id)
    tab.choose("bar")
    tab.act("cancel")

    expect(tab.find("#detail .state").first).to_have_text("cancelled")
    tab.says("Rejected: cancelled by a person")
    expect(tab.find("#detail [data-act=cancel]")).to_have_count(0)


def test_a_user_who_is_too_late_is_told_so(demo: Demo, tab: Tab, id: str) -> None:
    create(demo.client(), id, {"func": "slow"}, target="poll://any@nobody")
    tab.open(id)
    tab.choose("slow")
    tab.find("#detail [data-act=cancel]").click()
    settle(demo.client(), id, 7)
    tab.find("#act-do").click()

    expect(tab.find("#notice-text")).to_have_text("Too late: it is already resolved")


def test_a_call_is_repeated_with_another_id_and_a_nested_one_as_a_tree_of_its_own(
    demo: Demo, tab: Tab, id: str
) -> None:
    tab.finish(demo, id)
    tab.act("again", given=f"{id}-again")

    expect(tab.find("#chain-id")).to_have_text(f"{id}-again")
    tab.says("Resolved: 3")
    expect(tab.find("#timeline .row-name")).to_have_text(["foo", "bar", "baz"])
    tab.choose("bar")
    tab.act("again")

    expect(tab.find("#chain-title")).to_have_text("bar")
    tab.says("Resolved: 2")
    expect(tab.find("#timeline .row-name")).to_have_text(["bar", "baz"])


def test_the_reason_is_shown_why_a_call_is_not_repeated(demo: Demo, tab: Tab, id: str) -> None:
    tab.may_lack_answers = True
    tab.finish(demo, id)
    for new, said in (
        (id, f"The promise {id} already exists; choose another id"),
        (f"{id}:1:2", "has no ':' in its id"),
    ):
        tab.act("again", given=new)
        expect(tab.find("#notice-text")).to_contain_text(said)


def test_settled_promises_and_local_steps_have_no_buttons_to_change_them(demo: Demo, tab: Tab, id: str) -> None:
    create(demo.client(), f"{id}-done")
    settle(demo.client(), f"{id}-done", {})
    tab.finish(demo, id, running=0.1)
    expect(tab.find("#detail [data-act]")).to_have_text(["Call again"])
    tab.choose("work")
    expect(tab.find("#detail [data-act]")).to_have_count(0)
    tab.visit(f"{id}-done")
    expect(tab.find("#detail strong")).to_have_text("promise")
    expect(tab.find("#detail [data-act]")).to_have_count(0)
