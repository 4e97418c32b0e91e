"""The stripe of a call: its life on a time axis that all calls of a drawing share."""

from collections.abc import Iterator
from enum import Enum
from itertools import groupby

from msgspec import Struct
from rich.text import Text

from resonate_server.client.calls import Call
from resonate_server.client.values import shown_duration
from resonate_server.protocol.records import PromiseState, TaskState

SIGHTINGS_KEPT = 500
"""Of one call; a call that changes hands more often loses the beginning."""


class Phase(Enum):
    """What a call does at a time: symbol, the same in ASCII, colour, and what the legend says."""

    RUNNING = ("█", "#", "cyan", "running")
    SUSPENDED = ("─", "-", "dim", "suspended")
    WAITING = ("░", ".", "yellow", "waiting for a worker")
    HALTED = ("▒", "!", "magenta", "halted")
    UNSEEN = ("━", "=", "", "no more known")

    def symbol(self, ascii_only: bool) -> str:
        unicode, plain, _, _ = self.value
        return plain if ascii_only else unicode


PHASES = {
    TaskState.ACQUIRED: Phase.RUNNING,
    TaskState.SUSPENDED: Phase.SUSPENDED,
    TaskState.PENDING: Phase.WAITING,
    TaskState.HALTED: Phase.HALTED,
}

SETTLED_COLOURS = {PromiseState.PENDING: "yellow", PromiseState.RESOLVED: "green", PromiseState.CANCELED: "magenta"}
"""Of a stripe, or part of one, of which nothing else is known; red otherwise."""


class Sighting(Struct, frozen=True):
    """What a call was seen to do from time ``at`` (ms) on."""

    at: int
    phase: Phase


type Sightings = dict[str, tuple[Sighting, ...]]
"""By id, oldest first. Never changed in place: one thread may draw them while another looks."""


def noted(sightings: Sightings, calls: list[Call], now: int) -> Sightings:
    """With what has changed since the last look. A call that is new since then has done so from its beginning."""
    changed = {}
    for call in calls:
        id = call.promise.id
        phase = PHASES.get(call.task.state) if call.task is not None and not call.is_timer else None
        seen = sightings.get(id, ())
        if phase is not None and (not seen or seen[-1].phase is not phase):
            new = sightings and id not in sightings
            changed[id] = (*seen, Sighting(call.promise.created_at if new else now, phase))[-SIGHTINGS_KEPT:]
        elif id not in sightings:
            changed[id] = ()
    return sightings | changed


class Axis(Struct, frozen=True):
    """Times ``begin`` to ``end`` (ms) on ``width`` columns."""

    begin: int
    end: int
    width: int
    ascii_only: bool

    def header(self) -> Text:
        """Its two ends."""
        length = shown_duration(self.end - self.begin)
        return Text("0" + length.rjust(self.width - 1), no_wrap=True)

    def stripe(self, call: Call, sightings: tuple[Sighting, ...]) -> Text:
        """At least one column wide, also for what took no time."""
        first = self._column(call.promise.created_at)
        last = self._column(call.settled_at or self.end)
        text = Text(" " * first, no_wrap=True)
        for phase, columns in groupby(self._phases(first, last, sightings)):
            colour = phase.value[2] or SETTLED_COLOURS.get(call.promise.state, "red")
            text.append(phase.symbol(self.ascii_only) * sum(1 for _ in columns), colour)
        return text

    def _column(self, at: int) -> int:
        length = max(self.end - self.begin, 1)
        return min(max((at - self.begin) * self.width // length, 0), self.width - 1)

    def _phases(self, first: int, last: int, sightings: tuple[Sighting, ...]) -> Iterator[Phase]:
        """Of each column; a short one is not lost in a longer one if it is the last to begin there."""
        begun = {self._column(each.at): each.phase for each in sightings}
        phase = Phase.UNSEEN
        for column in range(first, last + 1):
            phase = begun.get(column, phase)
            yield phase


def legend(sightings: Sightings, ascii_only: bool) -> Text:
    """What the symbols mean that are in use; empty if nothing was seen."""
    used = {each.phase for seen in sightings.values() for each in seen}
    parts = [f"{phase.symbol(ascii_only)} {phase.value[3]}" for phase in Phase if phase in used]
    if parts:
        parts.append(f"{Phase.UNSEEN.symbol(ascii_only)} {Phase.UNSEEN.value[3]}")
    return Text("   ".join(parts), "dim")
