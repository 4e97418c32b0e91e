"""Ids, payloads and names come from strangers: whatever they contain is shown as text and has no effect."""

from urllib.parse import quote

import pytest
from harness.stream import Stream
from playwright.sync_api import expect

from ui.browser import Tab
from ui.demo import Demo, create, settle

pytestmark = [pytest.mark.long, pytest.mark.browser]

HOSTILE = {
    "markup": "<img src=x onerror=window.ran=1>",
    "a script": "</script><script>window.ran=1</script>",
    "a broken attribute": "\"><svg onload=window.ran=1> ' ` ${window.ran=1}",
    "an address": "javascript:window.ran=1",
    "a path": "../../ui/api/chain?id=a&b#/chain/%3Cimg%3E",
    "a prototype": "__proto__",
}
# Invisible characters with an effect, and what is shown in their place.
UNSEEN = {
    "right to left": ("user-\u202etxt.exe", "user-⟨202E⟩txt.exe"),
    "a terminal's colours": ("a\x1b[31mred", "a␛[31mred"),
    "a bell and line breaks": ("a\x07b\r\nc", "a␇b␍␊c"),
    "nothing to see": ("a\u200bb\u2028c\u00add\u3164e", "a⟨200B⟩b⟨2028⟩c⟨00AD⟩d⟨3164⟩e"),
}


def assert_nothing_ran(tab: Tab) -> None:
    assert tab.script("window.ran") is None
    assert tab.script("[...document.images].every((image) => image.src.endsWith('/ui/icon.svg'))")
    assert tab.script("[...document.scripts].every((script) => script.src.includes('/ui/js/'))")
    assert tab.script("document.querySelectorAll('main svg [onload], iframe, object, embed').length") == 0
    assert tab.script("({}).ran") is None


def test_it_is_text_wherever_it_appears(demo: Demo, tab: Tab) -> None:
    client = demo.client()
    for text in HOSTILE.values():
        create(client, text, {"func": text, "args": [text]}, target="poll://any@nobody", **{text: text})
        create(client, f"{text}.child", {"func": text}, target="poll://any@nobody", origin=text, parent=text)
        tab.open(text)

        expect(tab.find("#chain-id")).to_have_text(text)
        expect(tab.find("#chain-title")).to_contain_text(text[:30])
        expect(tab.find("#chains .id", text=text).first).to_be_visible()
        expect(tab.find("#timeline .row")).to_have_count(2)
        settle(client, text, {"__type": "error", "message": text}, "rejected")

        tab.says(text[:20])
        tab.find("#timeline .row").first.hover()
        expect(tab.find("#detail pre").first).to_contain_text(text[:20].replace('"', '\\"'))
        assert_nothing_ran(tab)


def test_invisible_characters_are_made_visible(demo: Demo, tab: Tab) -> None:
    client = demo.client()
    for number, (text, seen) in enumerate(UNSEEN.values()):
        strange = f"strange-{number}-\u202e"
        create(client, strange, {"func": text}, target=f"poll://any@{quote(text)}")
        settle(client, strange, text)
        tab.open(strange)

        expect(tab.find("#chain-id")).to_have_text(f"strange-{number}-⟨202E⟩")
        expect(tab.find("#chain-title")).to_contain_text(seen)
        shown = tab.find("body").inner_text()
        expect(tab.find("#detail dl").first).to_contain_text(f"Group{seen}")
        assert not any(char in shown for char in "\u202e\x1b\x07\u200b\u2028")


def test_a_megabyte_is_cut_and_the_page_stays_responsive(demo: Demo, tab: Tab, id: str) -> None:
    client = demo.client()
    create(client, id, "x" * 1_000_000)
    settle(client, id, "<b>" + "y" * 1_000_000)
    tab.open(id)

    expect(tab.find("#detail")).to_contain_text("Cut: 1000005 bytes in all")
    assert len(tab.find("#detail").inner_text()) < 10_000
    tab.find("#detail button", text="Show more").first.click()
    expect(tab.find("#detail button", text="Show more")).to_have_count(1)
    assert len(tab.find("#detail").inner_text()) < 20_000
    assert_nothing_ran(tab)


def test_workers_and_groups_may_have_any_name(demo: Demo, tab: Tab, id: str) -> None:
    tab.open()
    stream = Stream(demo.server.port, "%3Cimg%20src=x%20onerror=window.ran=1%3E", f"%22%3E%3Cb%3E{id}")

    expect(tab.find("#groups h3", text="<img src=x onerror=window.ran=1>")).to_be_visible()
    expect(tab.find("#log")).to_contain_text("<img")
    stream.close()
    assert_nothing_ran(tab)
