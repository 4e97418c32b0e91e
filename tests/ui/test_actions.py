"""The actions that the page offers come from a configured address, and the page draws whatever that sends."""

from collections.abc import Iterator
from typing import Any

import pytest
from harness.adapter import Adapter, Reply, offer, running_adapter
from harness.basics import free_port, wait_until
from harness.server import ServerProcess
from playwright.sync_api import Route, expect

from ui.browser import Tab
from ui.conftest import OpenTab, Start
from ui.test_strangers import HOSTILE, assert_nothing_ran

pytestmark = [pytest.mark.long, pytest.mark.browser]

MARKUP = "<img src=x onerror=window.ran=1>"
NUMBER = {"name": "size", "label": "Size", "type": "number", "default": 2, "min": 1, "max": 9, "unit": "cm"}
TEXT = {"name": "who", "label": "Who", "type": "text", "default": "Zoë"}


def action(name: str, *fields: dict[str, Any], label: str = "Order", **commands: str) -> dict[str, Any]:
    listed = [{"label": name, "text": text} for name, text in commands.items()]
    return {"name": name, "label": label, "fields": fields, "commands": listed}


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(port: int, start: Start) -> ServerProcess:
    return start(RESONATE_UI__ACTIONS_URL=f"http://127.0.0.1:{port}/actions")


@pytest.fixture
def adapter(port: int) -> Iterator[Adapter]:
    with running_adapter(port) as adapter:
        yield adapter


@pytest.fixture
def tab(server: ServerProcess, open_tab: OpenTab) -> Tab:
    return open_tab(f"{server.url}/ui/")


def test_a_form_has_the_known_fields_within_their_limits_and_sends_what_is_filled_in(
    adapter: Adapter, tab: Tab, server: ServerProcess
) -> None:
    server.client().create("begun")
    strange = [{"name": "a", "label": "a", "type": kind} for kind in ("image", "__proto__", "")]
    adapter.replies["GET"] = offer(action("order", *strange, {**NUMBER, "default": MARKUP}, TEXT))
    tab.may_lack_answers = True
    tab.open()
    size = tab.find("#field-order-size")
    expect(tab.find("#actions label")).to_have_text(["Sizecm", "Who"])
    expect(size).to_have_value("")  # a default of the wrong type is ignored
    size.fill("10")
    tab.find("#action-order").click()
    assert size.evaluate("(input) => input.matches(':invalid')")
    assert [asked.method for asked in adapter.asked] == ["GET"]

    size.fill("7.5")
    tab.find("#action-order").click()
    wait_until(lambda: adapter.posted == [{"size": 7.5, "who": "Zoë"}], "the adapter is told")
    expect(tab.find("#chain-id")).to_have_text("begun")

    adapter.replies["POST"] = Reply(b'{"detail": "size is missing"}', 400)
    size.fill("")
    tab.find("#action-order").click()
    expect(tab.find("#notice-text")).to_have_text("size is missing")
    assert adapter.posted[-1] == {"who": "Zoë"}


def test_the_panel_is_busy_until_its_actions_are_loaded(adapter: Adapter, tab: Tab) -> None:
    adapter.replies["GET"] = offer(action("order"))
    held: list[Route] = []
    tab.page.route("**/api/actions", lambda route: held.append(route))
    tab.visit()
    expect(tab.find("#status")).to_have_attribute("data-state", "live")
    expect(tab.find("#actions")).to_have_attribute("aria-busy", "true")

    held[0].continue_()

    expect(tab.find("#action-order")).to_be_visible()
    expect(tab.find("#actions")).not_to_have_attribute("aria-busy", "true")


def test_all_strings_are_shown_as_text(adapter: Adapter, tab: Tab) -> None:
    for text in HOSTILE.values():
        field = {"name": "constructor", "label": text, "type": "text", "default": text, "unit": text[:20]}
        adapter.replies["GET"] = offer(
            action("__proto__", field, label=text), action("commands", label=text, **{text: text})
        )
        tab.open()

        expect(tab.find("#actions button.main")).to_have_text(text)
        expect(tab.find("#actions input")).to_have_value(text)
        tab.find("#action-commands").click()
        expect(tab.find("#commands-commands code")).to_have_text(text)
        assert_nothing_ran(tab)
        tab.page.reload()


def test_many_actions_leave_the_page_usable(adapter: Adapter, open_tab: OpenTab, server: ServerProcess) -> None:
    adapter.replies["GET"] = offer(*[action(f"a{number}", label="x" * 100) for number in range(16)])
    for width in (1280, 380):
        tab = open_tab(f"{server.url}/ui/", viewport={"width": width, "height": 800})
        tab.open()

        expect(tab.find("#actions button")).to_have_count(16)
        assert tab.width <= width
        assert tab.script("document.querySelector('#help').getBoundingClientRect().right") <= width
        assert tab.script("document.querySelector('main').getBoundingClientRect().height") > 300


def test_while_the_address_does_not_answer_the_page_says_so_and_asks_again_on_reload(
    port: int, tab: Tab, server: ServerProcess
) -> None:
    tab.open()
    expect(tab.find("#actions-trouble")).to_contain_text(f"http://127.0.0.1:{port}/actions does not answer")
    expect(tab.find("#notice")).to_be_hidden()
    expect(tab.find("#actions")).to_be_empty()

    with running_adapter(port) as adapter:
        adapter.replies["GET"] = offer(action("order"))
        tab.page.reload()

        expect(tab.find("#action-order")).to_be_visible()
        expect(tab.find("#actions-trouble")).to_be_hidden()
    assert server.is_running


def test_typed_text_survives_a_reconnection_and_new_actions_appear_after_one(
    adapter: Adapter, tab: Tab, server: ServerProcess
) -> None:
    adapter.replies["GET"] = offer(action("order", NUMBER))
    tab.may_lack_answers = True
    tab.open()
    tab.find("#field-order-size").fill("5")
    restart(server, tab)
    expect(tab.find("#field-order-size")).to_have_value("5")

    adapter.replies["GET"] = offer(action("other"))
    restart(server, tab)
    expect(tab.find("#action-other")).to_be_visible()
    expect(tab.find("#action-order")).to_have_count(0)


def restart(server: ServerProcess, tab: Tab) -> None:
    server.kill()
    expect(tab.find("#status")).to_have_attribute("data-state", "stale")
    with tab.page.expect_response("**/api/actions"):
        server.start()
    expect(tab.find("#status")).to_have_attribute("data-state", "live")
