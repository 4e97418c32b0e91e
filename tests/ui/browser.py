"""Debian's Chromium, and a tab that records everything that must not happen in a page."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect, sync_playwright

from ui.demo import LONG, Demo

REBOUND = "evil.test"
"""A name of somebody else's domain that resolves to this machine, as its owner can arrange at any time."""

FLAGS = [
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
PATIENCE_MS = 60_000
# The browser logs this for answers like 401 and for failed connections, even if the page handles them.
NO_ANSWER = "Failed to load resource"

expect.set_options(timeout=PATIENCE_MS)


NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
"""The first one has no windows and starts in a third of the time."""


def chromium() -> Path | None:
    """Return the program named by the variable ``CHROMIUM`` or found on the PATH, if there is one."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    return Path(found) if found else None


@contextmanager
def running(program: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


class Tab:
    """A page below ``home``. ``may_lack_answers``: the server may be down for a while or refuse requests; ``may_fail``:
    the page itself is broken on purpose."""

    def __init__(self, page: Page, home: str) -> None:
        self.page = page
        self.home = home
        self.may_lack_answers = self.may_fail = False
        self._said: list[str] = []
        self._asked: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self._said.append(str(error)))
        page.on("request", self._note)

    def open(self, id: str | None = None) -> None:
        """Open the page, with the chain ``id`` in the address; return when it is live and shows all controls."""
        self.visit(id)
        expect(self.find("#status")).to_have_attribute("data-state", "live")
        expect(self.find("#actions")).not_to_have_attribute("aria-busy", "true")

    def visit(self, id: str | None = None) -> None:
        self.page.goto(self.home + ("" if id is None else f"#/chain/{quote(id, safe='')}"))

    def await_chain(self, id: str) -> None:
        """Open the page at a chain that does not exist yet; it is shown as soon as it starts."""
        self.may_lack_answers = True
        self.open(id)
        expect(self.find("#notice")).to_contain_text("if it begins, it is shown")

    def find(self, selector: str, text: str | None = None) -> Locator:
        return self.page.locator(selector, has_text=text)

    def row(self, name: str) -> Locator:
        return self.find("#timeline .row").filter(has=self.find(f".row-name:text-is('{name}')"))

    def script(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def stripe(self, name: str, kind: str) -> Locator:
        """The current phase of the row with that name, if it is of that kind."""
        return self.row(name).locator(f".stripe[data-kind={kind}][data-open]")

    def finish(self, demo: Demo, id: str, **body: float) -> None:
        """Run a chain, and show it when it has finished."""
        demo.send(id, **body)
        self.open(id)
        self.says("Resolved: 3")

    def suspend(self, demo: Demo, id: str) -> None:
        """Begin a chain that pauses, and show it when bar is suspended."""
        self.await_chain(id)
        demo.send(id, pause=LONG)
        expect(self.stripe("bar", "suspended")).to_be_visible()

    def resume(self, demo: Demo, id: str) -> None:
        """End the pause, and wait until the result is shown."""
        demo.client().end_sleep(id)
        self.says("Resolved: 3")

    def says(self, text: str) -> None:
        """Wait until the headline contains the text."""
        expect(self.find("#headline-text")).to_contain_text(text)

    def choose(self, name: str) -> None:
        """Select the row with that name, so that its details are shown."""
        self.row(name).click()
        expect(self.find("#detail strong")).to_have_text(name)

    def act(self, name: str, *, given: str | None = None) -> None:
        """Do something with the selected promise, and confirm it."""
        self.find(f"#detail [data-act={name}]").click()
        if given is not None:
            self.find("#act-field").fill(given)
        self.find("#act-do").click()
        expect(self.find("#act")).to_be_hidden()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def tab_to(self, selector: str) -> None:
        """Move the focus by keyboard."""
        while not self.script(f"document.activeElement.matches({selector!r})"):
            self.press("Tab")

    @property
    def width(self) -> int:
        """Of the whole document, in pixels, including what can only be reached by scrolling sideways."""
        return int(self.script("document.documentElement.scrollWidth"))

    @property
    def troubles(self) -> list[str]:
        """Return errors, warnings, violations of the content security policy, and requests to other servers."""
        said = [] if self.may_fail else self._said
        said = [text for text in said if not (self.may_lack_answers and NO_ANSWER in text)]
        return said + [url for url in self._asked if urlsplit(url)[:2] != urlsplit(self.home)[:2]]

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._said.append(message.text)

    def _note(self, request: Request) -> None:
        self._asked.append(request.url)


def tab_of(browser: Browser, home: str, **context: Any) -> Tab:
    """A tab in a fresh profile with reduced motion: animations cost the browser eight times the work."""
    settings = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", **context}
    page = browser.new_context(**settings).new_page()
    page.set_default_timeout(PATIENCE_MS)
    return Tab(page, home)
