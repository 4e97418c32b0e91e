"""``resonate tree --watch``: read a chain repeatedly until it is settled, and redraw it in place."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from resonate_server.client.calls import Call, CallTree
from resonate_server.client.commands import fail
from resonate_server.client.drawing import Drawing
from resonate_server.client.server_connection import CallFailed
from resonate_server.client.values import now_ms, printable, shown_duration
from resonate_server.protocol.records import PromiseState

READ_PAUSE_S = 0.25
"""Pause between two reads; as long as the last read took, if that is longer, so that long chains cost no more."""

FRAMES_PER_S = 4.0

ANSWER_S = 5.0
"""A server that takes longer to answer counts as away."""

UNKNOWN_KIND = 501

UNWATCHED = 2
EXIT_STATUS = {
    PromiseState.RESOLVED: 0,
    PromiseState.REJECTED: 1,
    PromiseState.CANCELED: 3,
    PromiseState.TIMEDOUT: 4,
}


def follow(tree: CallTree, console: Console) -> int:
    """Draw ``tree`` until its topmost call is settled; return the exit status for its outcome."""
    with ended_by_signals():
        try:
            follower = Follower(tree)
            draw = _draw_live if _can_redraw(console) else _draw_at_the_end
            draw(follower, console)
        except CallFailed as error:
            fail(str(error), UNWATCHED)
    return EXIT_STATUS[follower.calls[0].promise.state]


def _can_redraw(console: Console) -> bool:
    """Colours can be forced on a file, but a moving cursor cannot."""
    return console.file.isatty() and not console.is_dumb_terminal


def _draw_live(follower: "Follower", console: Console) -> None:
    """Frames come from a thread of their own: stripes keep growing while the server is slow to answer."""

    def frame() -> RenderableType:
        if live_is_over.is_set():
            return follower.drawing(console).whole()
        lines = [follower.away_line(now_ms())] if follower.away_since is not None else []
        return Group(follower.drawing(console).within(console.height - len(lines)), *lines)

    live_is_over = threading.Event()
    with Live(get_renderable=frame, console=console, refresh_per_second=FRAMES_PER_S):
        try:
            follower.until_settled(_keep_quiet)
        finally:
            live_is_over.set()


def _draw_at_the_end(follower: "Follower", console: Console) -> None:
    if not follower.calls[0].is_settled:
        _tell(f"waiting until {printable(follower.calls[0].promise.id)} is settled")
    try:
        follower.until_settled(_tell)
    finally:
        console.print(follower.drawing(console).whole())


def _keep_quiet(_line: str) -> None:
    """The frame shows it."""


def _tell(line: str) -> None:
    click.echo(line, err=True)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """End the command cleanly at the first SIGINT or SIGTERM; a second one cannot interrupt that."""

    def end(number: int, _frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Follower:
    """What is known of a chain so far. Raises :class:`CallFailed` if the first read fails."""

    def __init__(self, tree: CallTree) -> None:
        self.away_since: int | None = None
        self.calls: list[Call] = tree.read()
        self._tree = tree
        self._away_why = ""

    def until_settled(self, tell: Callable[[str], None]) -> None:
        """Read repeatedly; call ``tell`` when the server goes away and when it is back."""
        pause = READ_PAUSE_S
        while not self.calls[0].is_settled:
            time.sleep(pause)
            began = time.monotonic()
            self._look(tell)
            pause = max(READ_PAUSE_S, time.monotonic() - began)

    def _look(self, tell: Callable[[str], None]) -> None:
        try:
            calls = self._tree.read()
        except CallFailed as error:
            if not is_transient(error):
                raise
            self._away_why = str(error)
            if self.away_since is None:
                self.away_since = now_ms()
                tell(self.away_line(self.away_since).plain)
            return
        if self.away_since is not None:
            tell(f"the server is back after {shown_duration(now_ms() - self.away_since)}")
            self.away_since = None
        self.calls = calls

    def away_line(self, now: int) -> Text:
        since = shown_duration(now - (self.away_since or now))
        line = Text(f"server away for {since}, waiting: {printable(self._away_why)}", "bold red")
        line.no_wrap = True
        return line

    def drawing(self, console: Console) -> Drawing:
        return Drawing(self.calls, console, now_ms(), self._tree.story)


def is_transient(error: CallFailed) -> bool:
    """Return whether the failure is transient: no answer, one from a proxy, or a server that is not ready."""
    return error.status in (0, 429) or (error.status >= 500 and error.status != UNKNOWN_KIND)
