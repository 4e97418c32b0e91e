"""The page is accessible: by keyboard alone, on a phone, in dark mode, with reduced motion."""

import pytest
from playwright.sync_api import expect

from ui.browser import Tab
from ui.conftest import OpenTab
from ui.demo import Demo

pytestmark = [pytest.mark.long, pytest.mark.browser]

CONTRAST = """
([selector]) => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const rgb = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return canvas.getImageData(0, 0, 1, 1).data; };
  const light = (color) => { const [r, g, b] = [...rgb(color)].map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const node = document.querySelector(selector);
  let behind = node;
  while (behind && rgb(getComputedStyle(behind).backgroundColor)[3] < 255) behind = behind.parentElement;
  const ground = light(getComputedStyle(behind ?? document.documentElement).backgroundColor);
  const ink = light(getComputedStyle(node).color);
  return { ground, ratio: (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05) };
}
"""  # noqa: E501
TEXTS = [
    "#chain-title",
    "#headline-text",
    "#chains .id",
    "#timeline .row-name",
    "#detail dt",
    "#groups h3",
    "#legend li",
    "#log li",
]


def focused(tab: Tab) -> str:
    """Return the id of the focused element or of its nearest ancestor that has one; for a link, its text."""
    return str(tab.script("document.activeElement.closest('[id]')?.id ?? document.activeElement.textContent"))


def test_a_chain_is_found_chosen_and_read_by_keyboard(demo: Demo, tab: Tab, id: str) -> None:
    demo.send(id)
    demo.send(f"{id}-newer")
    tab.open()
    expect(tab.find("#chains [data-state=resolved]")).not_to_have_count(0)
    tab.press("/")
    assert focused(tab) == "filter"
    tab.page.keyboard.type(id)
    expect(tab.find("#chains-count")).to_have_text("2")

    tab.press("Tab", "Tab")
    assert focused(tab) == "chains"
    tab.press("End", "Enter")

    expect(tab.find("#chain-id")).to_have_text(id)
    tab.says("Resolved: 3")
    expect(tab.find("#timeline .row")).to_have_count(3)
    tab.tab_to("#timeline .row")
    tab.press("ArrowDown")
    expect(tab.find("#timeline .row:focus .row-name")).to_have_text("bar")
    expect(tab.find("#detail strong")).to_have_text("bar")
    tab.press("ArrowLeft")
    expect(tab.find("#timeline .row:focus .row-name")).to_have_text("foo")


def test_a_request_is_sent_by_keyboard(tab: Tab) -> None:
    tab.open()
    expect(tab.find("#action-request")).to_be_visible()
    tab.tab_to("#field-request-pause")
    tab.press("0", "Enter")

    tab.says("Resolved: 3")


def test_the_focus_is_visible_and_reaches_every_control(tab: Tab) -> None:
    tab.open()
    reached: list[str] = []
    while "log" not in reached and len(reached) < 60:
        tab.press("Tab")
        reached.append(focused(tab))
        assert tab.script("getComputedStyle(document.activeElement).outlineStyle") != "none", reached[-1]
    assert reached[0] == "Skip to the chains"
    assert {
        "field-request-pause",
        "action-request",
        "action-break",
        "theme",
        "help",
        "follow",
        "filter",
        "state-filter",
        "chains",
    } <= set(reached)


def test_help_opens_and_closes_by_keyboard(tab: Tab) -> None:
    tab.open()
    tab.press("?")
    expect(tab.find("#help-dialog")).to_be_visible()
    tab.press("Escape")
    expect(tab.find("#help-dialog")).to_be_hidden()


def test_320_pixels_are_wide_enough(demo: Demo, open_tab: OpenTab, id: str) -> None:
    tab = open_tab(demo.page, viewport={"width": 320, "height": 640})
    tab.finish(demo, f"{id}-{'very-long-' * 11}")

    for pane in ("chains", "timeline", "workers"):
        tab.find(f"#tabs [data-pane={pane}]").click()

        expect(tab.find(f"#pane-{pane}")).to_be_visible()
        assert tab.width <= 320
        assert tab.script(f"document.querySelector('#pane-{pane}').getBoundingClientRect().right") <= 320


def test_the_timeline_can_be_read_at_400_percent(demo: Demo, open_tab: OpenTab) -> None:
    """A window of 1,280 by 1,024 pixels then has this many. What does not fit can be scrolled to."""
    tab = open_tab(demo.page, viewport={"width": 320, "height": 256})
    tab.open()
    assert tab.script("document.querySelector('#timeline').clientHeight") > 80


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(demo: Demo, open_tab: OpenTab, id: str, scheme: str) -> None:
    tab = open_tab(demo.page, color_scheme=scheme)
    tab.finish(demo, id)
    demo.client().create(f"{id}-to-log")
    for selector in TEXTS:
        expect(tab.find(selector).first).to_be_visible()

    seen = {selector: tab.page.evaluate(CONTRAST, [selector]) for selector in TEXTS}

    assert {selector: one["ratio"] for selector, one in seen.items() if one["ratio"] < 4.5} == {}
    assert all((one["ground"] < 0.2) == (scheme == "dark") for one in seen.values())


def test_the_theme_is_chosen_by_hand_and_kept(tab: Tab) -> None:
    tab.open()
    before = tab.page.evaluate(CONTRAST, ["body"])["ground"]
    tab.find("#theme").click()
    tab.page.reload()

    assert before > 0.5 > tab.page.evaluate(CONTRAST, ["body"])["ground"]
