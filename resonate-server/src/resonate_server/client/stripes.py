"""The stripe of a call: its life on a time axis that all calls of a drawing share."""

from collections.abc import Iterator
from enum import Enum
from itertools import groupby

from msgspec import Struct
from rich.text import Text

from resonate_server.client.calls import Call, Phase
from resonate_server.client.values import shown_duration
from resonate_server.protocol.records import PromiseState


class Mark(Enum):
    """How a kind of phase is drawn: symbol, the same in ASCII, colour, and its name in the legend, as on the page."""

    RUNNING = ("█", "#", "cyan", "running")
    SUSPENDED = ("─", "-", "dim", "suspended")
    TIMER = ("┈", "~", "dim", "sleeping")
    WAITING = ("░", ".", "yellow", "waiting")
    GAP = ("▚", "x", "red", "worker gone")
    HALTED = ("▒", "!", "magenta", "halted")
    UNKNOWN = ("━", "=", "", "not recorded")

    def symbol(self, ascii_only: bool) -> str:
        unicode, plain, _, _ = self.value
        return plain if ascii_only else unicode


SETTLED_COLOURS = {PromiseState.PENDING: "yellow", PromiseState.RESOLVED: "green", PromiseState.CANCELED: "magenta"}
"""Colours of a stripe, or part of one, about which nothing else is known; red otherwise."""


class Axis(Struct, frozen=True):
    """Times ``begin`` to ``end`` (ms) on ``width`` columns."""

    begin: int
    end: int
    width: int
    ascii_only: bool

    def header(self) -> Text:
        """Return the labels of its two ends."""
        length = shown_duration(self.end - self.begin)
        return Text("0" + length.rjust(self.width - 1), no_wrap=True)

    def stripe(self, call: Call) -> Text:
        """Return the call's stripe, at least one column wide even if the call took no time."""
        first = self._column(call.promise.created_at)
        last = self._column(call.settled_at or self.end)
        text = Text(" " * first, no_wrap=True)
        for mark, columns in groupby(self._marks(first, last, call.phases)):
            colour = mark.value[2] or SETTLED_COLOURS.get(call.promise.state, "red")
            text.append(mark.symbol(self.ascii_only) * sum(1 for _ in columns), colour)
        return text

    def _column(self, at: int) -> int:
        length = max(self.end - self.begin, 1)
        return min(max((at - self.begin) * self.width // length, 0), self.width - 1)

    def _marks(self, first: int, last: int, phases: list[Phase]) -> Iterator[Mark]:
        """Yield the mark of each column: that of the last phase to begin there, so that longer phases do not hide
        it."""
        begun = {self._column(phase.begin): _mark(phase) for phase in phases}
        mark = Mark.UNKNOWN
        for column in range(first, last + 1):
            mark = begun.get(column, mark)
            yield mark


def _mark(phase: Phase) -> Mark:
    return Mark.__members__.get(phase.kind.upper(), Mark.UNKNOWN)


def legend(calls: list[Call], ascii_only: bool) -> Text:
    """Explain the symbols in use; empty if no phase is known."""
    used = {_mark(phase) for call in calls for phase in call.phases}
    return Text("   ".join(f"{mark.symbol(ascii_only)} {mark.value[3]}" for mark in Mark if mark in used), "dim")
