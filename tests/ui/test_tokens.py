"""With a server that requires tokens, the page asks once, keeps the token for the tab, and shows what it permits."""

from typing import Any

import jwt
import pytest
from harness.server import FAR, Client, ServerProcess
from harness.stream import Stream
from playwright.sync_api import expect

from ui.browser import Tab
from ui.conftest import OpenTab, Start
from ui.demo import create

pytestmark = [pytest.mark.long, pytest.mark.browser]


class Guarded:
    """A server that requires tokens, and trusts whoever writes them."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.page = f"{self.server.url}/ui/"

    def token(self, **claims: Any) -> str:
        return jwt.encode(
            {"exp": FAR // 1_000, "role": "admin", **claims}, "a key that nobody asks for, of good length"
        )

    def create(self, id: str, **tags: str) -> None:
        create(Client(self.server.port, token=self.token()), id, **tags)


@pytest.fixture(scope="module")
def guarded(start: Start) -> Guarded:
    guarded = Guarded(start(RESONATE_AUTH__PUBLICKEY="none"))
    for id in ("mine-1", "yours-1"):
        guarded.create(id)
    return guarded


@pytest.fixture
def tab(guarded: Guarded, open_tab: OpenTab) -> Tab:
    tab = open_tab(guarded.page)
    tab.may_lack_answers = True
    tab.visit()
    return tab


def enter(tab: Tab, token: str) -> None:
    expect(tab.find("#auth")).to_be_visible()
    tab.find("#token").fill(token)
    tab.press("Enter")


def test_it_is_asked_for_once_and_kept_for_the_tab(guarded: Guarded, tab: Tab) -> None:
    expect(tab.find("#auth")).to_be_visible()
    assert tab.find("#chains [data-chain]").count() == 0
    enter(tab, guarded.token())
    expect(tab.find("#status")).to_have_attribute("data-state", "live")
    expect(tab.find("#chains [data-chain]")).to_have_count(2)

    tab.page.reload()

    expect(tab.find("#chains [data-chain]")).to_have_count(2)
    expect(tab.find("#auth")).to_be_hidden()
    other = Tab(tab.page.context.new_page(), guarded.page)
    other.visit()
    expect(other.find("#auth")).to_be_visible()


def test_a_wrong_one_is_refused_with_the_reason_and_asked_for_again(guarded: Guarded, tab: Tab) -> None:
    enter(tab, guarded.token(exp=1))
    expect(tab.find("#auth-why")).to_contain_text("expired")
    enter(tab, guarded.token())

    expect(tab.find("#status")).to_have_attribute("data-state", "live")
    expect(tab.find("#auth")).to_be_hidden()


def test_a_token_that_no_request_can_carry_is_not_accepted(tab: Tab) -> None:
    enter(tab, "t\u20acken")

    expect(tab.find("#auth")).to_be_visible()
    assert tab.script("sessionStorage.length") == 0


@pytest.mark.parametrize("asks", [False, True], ids=["", "while the page asks for it"])
def test_the_address_may_contain_it_and_does_not_keep_it(guarded: Guarded, open_tab: OpenTab, asks: bool) -> None:
    tab = open_tab(guarded.page)
    if asks:
        tab.may_lack_answers = True
        tab.visit()
        expect(tab.find("#auth")).to_be_visible()
    tab.page.goto(f"{guarded.page}#token={guarded.token()}")

    expect(tab.find("#status")).to_have_attribute("data-state", "live")
    expect(tab.find("#chains [data-chain]")).not_to_have_count(0)
    expect(tab.find("#auth")).to_be_hidden()
    assert tab.page.url == guarded.page


def test_one_with_a_prefix_sees_only_ids_and_groups_with_that_prefix(guarded: Guarded, tab: Tab) -> None:
    for group in ("mine-workers", "yours"):
        Stream(guarded.server.port, group, "pid", Authorization=f"Bearer {guarded.token()}")
    enter(tab, guarded.token(role=None, prefix="mine-"))

    expect(tab.find("#chains [data-chain]")).to_have_count(1)
    guarded.create("yours-2")
    guarded.create("mine-2")
    expect(tab.find("#chains [data-chain=mine-2]")).to_be_visible()
    expect(tab.find("#chains [data-chain]")).to_have_count(2)
    expect(tab.find("#groups h3 bdi")).to_have_text(["mine-workers"])
    expect(tab.find("#log li", "yours")).to_have_count(0)
    tab.find("#chains [data-chain=mine-1]").click()
    expect(tab.find("#chain-id")).to_have_text("mine-1")


def test_one_with_a_prefix_acts_only_on_ids_with_that_prefix(guarded: Guarded, tab: Tab) -> None:
    guarded.create("ours-approval")
    guarded.create("ours-call", target="poll://any@nobody")
    enter(tab, guarded.token(role=None, prefix="ours-"))
    tab.find("#chains [data-chain=ours-approval]").click()
    tab.act("approve")
    expect(tab.find("#chain-state")).to_have_text("resolved")

    tab.find("#chains [data-chain=ours-call]").click()
    tab.act("again", given="yours-call")
    expect(tab.find("#notice-text")).to_contain_text("this token is only for ids")
    tab.act("cancel")
    expect(tab.find("#chain-state")).to_have_text("cancelled")
