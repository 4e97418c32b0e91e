"""``resonate tree``: the calls of a chain, drawn once, or read repeatedly and redrawn until the chain is settled."""

import os
import threading
import time
from collections.abc import Callable

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from resonate_server.client.calls import Call, CallTree
from resonate_server.client.commands import ANSWER_S, connect, ended_by_signals, fail, shown
from resonate_server.client.drawing import UNBOUNDED, Drawing
from resonate_server.client.server_connection import CallFailed
from resonate_server.client.values import now_ms, printable
from resonate_server.protocol.records import PromiseState
from resonate_server.protocol.words import duration

READ_PAUSE_S = 0.25
"""Pause between two reads; as long as the last read took, if that is longer, so that long chains cost no more."""

FRAMES_PER_S = 4.0

UNWATCHED = 2
EXIT_STATUS = {
    PromiseState.RESOLVED: 0,
    PromiseState.REJECTED: 1,
    PromiseState.CANCELED: 3,
    PromiseState.TIMEDOUT: 4,
}


@click.command(short_help="Draw the calls of a chain.")
@click.argument("id")
@click.option("-w", "--watch", is_flag=True, help="Follow the chain until the call ID is settled.")
def tree(id: str, watch: bool) -> None:
    """Draw the calls of a chain: what was called, its state and for how long, and who runs it.

    ID is the promise that started the chain, or one below it to see only that part. "attempt 2 by 3f2a91c0" means that
    worker 3f2a91c0 runs the second attempt; "pending, attempt 2" waits for a worker to begin the third. A wide terminal
    shows a stripe for each call, from the beginning of ID until now: the life of the call as on the live page. If the
    chain met a fault, its story follows below. (Only this server provides these.)

    With --watch, a terminal shows the tree as it grows. Any other output gets it once, at the end, and standard error
    says what the command waits for. It also waits for a server that goes away. Ctrl-C ends the watching, not the chain.

    \b
    Exit status with --watch:
      0    ID is resolved
      1    ID is rejected
      2    there is nothing to watch: no such ID, no server at the beginning, no permission
      3    ID is cancelled
      4    ID has timed out
      130  Ctrl-C
    """
    console = _console()
    if watch:
        raise SystemExit(follow(CallTree(connect(ANSWER_S), id), console))
    chain = CallTree(connect(), id)
    calls = chain.read()
    console.print(Drawing(calls, console, chain.now(), chain.story).whole())


def _console() -> Console:
    """Return a console as wide as the terminal; other output is not wrapped, so that it can be searched."""
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNBOUNDED
    return console


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
            if not error.is_transient:
                raise
            self._away_why = str(error)
            if self.away_since is None:
                self.away_since = now_ms()
                tell(self.away_line(self.away_since).plain)
            return
        if self.away_since is not None:
            tell(f"the server is back after {duration(now_ms() - self.away_since)}")
            self.away_since = None
        self.calls = calls

    def away_line(self, now: int) -> Text:
        since = duration(now - (self.away_since or now))
        line = Text(f"server away for {since}, waiting: {shown(self._away_why)}", "bold red")
        line.no_wrap = True
        return line

    def drawing(self, console: Console) -> Drawing:
        return Drawing(self.calls, console, self._tree.now(), self._tree.story)


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


def _draw_live(follower: Follower, console: Console) -> None:
    """Frames come from a thread of their own: stripes keep growing while the server is slow to answer."""

    def frame() -> RenderableType:
        if live_is_over.is_set():
            return follower.drawing(console).whole()
        lines = [follower.away_line(now_ms())] if follower.away_since is not None else []
        return Group(follower.drawing(console).within(console.height - len(lines)), *lines)

    live_is_over = threading.Event()
    with Live(get_renderable=frame, console=console, refresh_per_second=FRAMES_PER_S):
        try:
            follower.until_settled(lambda _: None)  # the frame shows it
        finally:
            live_is_over.set()


def _draw_at_the_end(follower: Follower, console: Console) -> None:
    if not follower.calls[0].is_settled:
        _tell(f"waiting until {printable(follower.calls[0].promise.id)} is settled")
    try:
        follower.until_settled(_tell)
    finally:
        console.print(follower.drawing(console).whole())


def _tell(line: str) -> None:
    click.echo(line, err=True)
