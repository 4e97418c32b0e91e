"""Debian's Chromium, and a tab of it that keeps account of everything that should not happen in a page."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect, sync_playwright

REBOUND = "evil.test"
"""A name of somebody else that points to this machine, as its owner can have it do at any time."""

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
# The browser's own word for an answer like 401, or for none: it stands in the console whoever handles it.
NO_ANSWER = "Failed to load resource"

expect.set_options(timeout=PATIENCE_MS)


NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
"""The first one has no windows, and takes a third of the time."""


def chromium() -> Path | None:
    """The program, if there is one: named by the variable ``CHROMIUM``, or on the PATH."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    return Path(found) if found else None


@contextmanager
def running(program: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


class Tab:
    """A page below ``home``. ``may_lack_answers``: the server is away for a while, or refuses; ``may_fail``: the page
    itself is broken on purpose."""

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
        """The page, with the chain ``id`` chosen by the address; returns when it follows the server and every control
        is there."""
        self.visit(id)
        expect(self.find("#status")).to_have_attribute("data-state", "live")
        expect(self.find("#actions")).not_to_have_attribute("aria-busy", "true")

    def visit(self, id: str | None = None) -> None:
        self.page.goto(self.home + ("" if id is None else f"#/chain/{quote(id, safe='')}"))

    def await_chain(self, id: str) -> None:
        """Open the page at a chain that has yet to begin: it is shown in the moment it does."""
        self.may_lack_answers = True
        self.open(id)
        expect(self.find("#notice")).to_contain_text("if it begins, it is shown")

    def find(self, selector: str, text: str | None = None) -> Locator:
        return self.page.locator(selector, has_text=text)

    def row(self, name: str) -> Locator:
        """The row of the timeline with that name."""
        return self.find("#timeline .row").filter(has=self.find(f".row-name:text-is('{name}')"))

    def script(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def troubles(self) -> list[str]:
        """Errors, warnings and breaches of the content security policy, and requests to other servers."""
        said = [] if self.may_fail else self._said
        said = [text for text in said if not (self.may_lack_answers and NO_ANSWER in text)]
        return said + [url for url in self._asked if urlsplit(url)[:2] != urlsplit(self.home)[:2]]

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._said.append(message.text)

    def _note(self, request: Request) -> None:
        self._asked.append(request.url)


def tab_of(browser: Browser, home: str, **context: Any) -> Tab:
    """In a profile of its own, of somebody who wants less motion: what moves takes the browser eight times the work."""
    settings = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", **context}
    page = browser.new_context(**settings).new_page()
    page.set_default_timeout(PATIENCE_MS)
    return Tab(page, home)
