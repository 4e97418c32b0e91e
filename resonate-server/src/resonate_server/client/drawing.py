"""Draws ``resonate tree``: a row for each call, with a stripe if the width is known. No requests, no clock.

The stripe of a call is its life on a time axis that all calls of a drawing share.
"""

from collections.abc import Iterator
from enum import Enum
from functools import cached_property
from itertools import groupby

import msgspec
from msgspec import Struct
from rich.console import Console, Group, OverflowMethod
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from resonate_server.client.calls import Call, CallTask, Phase
from resonate_server.client.commands import shown
from resonate_server.protocol.payload import function_of
from resonate_server.protocol.records import PromiseState, Role, TaskState
from resonate_server.protocol.words import duration

PID_SHOWN = 8
"""Characters of a process id: enough to tell processes apart."""

NOBODY = "nobody"
"""The reason of a phase in which a call waits for a group without workers."""

UNBOUNDED = 100_000
"""More columns than any drawing has."""

NARROWEST_CALL = 20
"""Minimum width of the calls themselves, at the expense of the other columns."""

GAP = 2
"""Blanks between columns."""

GOOD_STRIPE = 24
NARROWEST_STRIPE = 10

OUTCOME_SHOWN = 1_000
"""Characters of a result or an error on a terminal."""

LINES_AROUND = 7
"""Lines besides rows and outcomes: root's id, header, number of calls left out, legend, and blank lines."""

STATES = {
    PromiseState.PENDING: ("●", "o", "yellow", "pending for"),
    PromiseState.RESOLVED: ("✔", "+", "green", "resolved in"),
    PromiseState.REJECTED: ("✘", "x", "red", "rejected after"),
    PromiseState.CANCELED: ("✘", "x", "magenta", "cancelled after"),
    PromiseState.TIMEDOUT: ("✘", "x", "red", "timed out after"),
}
"""Symbol, the same in ASCII, colour, and the words that precede a duration."""


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


class Axis(Struct, frozen=True):
    """Times ``begin`` to ``end`` (ms) on ``width`` columns."""

    begin: int
    end: int
    width: int
    ascii_only: bool

    def header(self) -> Text:
        """Return the labels of its two ends."""
        length = duration(self.end - self.begin)
        return Text("0" + length.rjust(self.width - 1), no_wrap=True)

    def stripe(self, call: Call) -> Text:
        """Return the call's stripe, at least one column wide even if the call took no time."""
        first = self._column(call.promise.created_at)
        last = self._column(call.settled_at or self.end)
        text = Text(" " * first, no_wrap=True)
        for mark, columns in groupby(self._marks(first, last, call.phases)):
            colour = mark.value[2] or STATES[call.promise.state][2]
            text.append(mark.symbol(self.ascii_only) * sum(1 for _ in columns), colour)
        return text

    def _column(self, at: int) -> int:
        length = max(self.end - self.begin, 1)
        return min(max((at - self.begin) * self.width // length, 0), self.width - 1)

    def _marks(self, first: int, last: int, phases: list[Phase]) -> Iterator[Mark]:
        """The last phase to begin in a column is visible there, so that longer ones do not hide it."""
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


# ── the drawing ──


class Layout(Struct, frozen=True):
    """One way to use the available columns. ``stripe`` is the minimum width of the stripes, 0 for none."""

    short_ids: bool
    group: bool
    stripe: int


UNBOUNDED_LAYOUT = Layout(short_ids=False, group=True, stripe=0)

LAYOUTS = (
    Layout(short_ids=False, group=True, stripe=GOOD_STRIPE),
    Layout(short_ids=True, group=True, stripe=GOOD_STRIPE),
    Layout(short_ids=True, group=False, stripe=NARROWEST_STRIPE),
    UNBOUNDED_LAYOUT,
    Layout(short_ids=True, group=True, stripe=0),
    Layout(short_ids=True, group=False, stripe=0),
)
"""The first that fits is used, otherwise the last one, cut."""


class Drawing:
    """Draws calls on ``console`` as they are at time ``now`` (ms), and below them ``story``, a paragraph.

    If that would be too wide, the root's id stands above the table, and the ids below it omit that prefix.
    """

    def __init__(self, calls: list[Call], console: Console, now: int, story: list[str]) -> None:
        self._calls = calls
        self._story = story
        self._rows = calls
        self._console = console
        self._now = now
        self._folding = True
        self._ascii_only = not console.encoding.startswith("utf")
        self._root = calls[0].promise.id

    def whole(self) -> Group:
        return Group(*self._table(), *self._legend(), *self._outcomes(), *self._told())

    def within(self, lines: int) -> Group:
        """Draw as many rows as fit into ``lines``; settled calls are left out first. Nothing is wrapped."""
        self._folding = False
        outcomes = self._outcomes()[: max(lines // 2, 0)]
        room = max(lines - len(outcomes) - LINES_AROUND, 1)
        self._rows = _most_telling(self._calls, room)
        missing = len(self._calls) - len(self._rows)
        left_out = [Text(f"and {missing} more calls", "dim")] if missing else []
        return Group(*self._table(), *left_out, *self._legend(), *outcomes)

    # ── the table ──

    def _table(self) -> list[Text | Table]:
        layout, stripe_width = self._layout
        table = self._with_columns(layout, stripe_width)
        return [self._line(shown(self._root)), Text(), table] if layout.short_ids else [table]

    @cached_property
    def _layout(self) -> tuple[Layout, int]:
        """The layout, and the width of the stripes."""
        if self._console.width >= UNBOUNDED:
            return UNBOUNDED_LAYOUT, 0
        for layout in LAYOUTS:
            left = self._console.width - self._needed(self._with_columns(layout, 0))
            if layout.stripe and left >= layout.stripe + GAP:
                return layout, left - GAP
            if not layout.stripe and left >= 0:
                return layout, 0
        return LAYOUTS[-1], 0

    def _needed(self, table: Table) -> int:
        return Measurement.get(self._console, self._console.options.update(max_width=UNBOUNDED), table).maximum

    def _with_columns(self, layout: Layout, stripe_width: int) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
        table.add_column("CALL", min_width=NARROWEST_CALL)
        for name in ("STATE", "GROUP", "TASK") if layout.group else ("STATE", "TASK"):
            table.add_column(name, no_wrap=True)
        axis = self._axis(stripe_width)
        if stripe_width:
            table.add_column(axis.header(), no_wrap=True, width=stripe_width)
        drawn = {call.promise.id for call in self._rows}
        follow: list[bool] = []
        for call in self._calls:
            follow[call.depth :] = [call.follows]
            if call.promise.id in drawn:
                table.add_row(*self._cells(call, self._guides(follow[1:]), layout, axis if stripe_width else None))
        return table

    def _cells(self, call: Call, guides: str, layout: Layout, axis: Axis | None) -> Iterator[Text]:
        yield self._call(call, guides, layout)
        yield self._state(call)
        if layout.group:
            yield self._group(call)
        yield self._task(call)
        if axis is not None:
            yield axis.stripe(call)

    def _axis(self, width: int) -> Axis:
        """Return the axis from the beginning of the topmost call to the last end, or to now."""
        begin = self._calls[0].promise.created_at
        end = max(call.settled_at or self._now for call in self._calls)
        return Axis(begin=begin, end=max(begin, end), width=width, ascii_only=self._ascii_only)

    def _call(self, call: Call, guides: str, layout: Layout) -> Text:
        symbol, plain, colour, _ = STATES[call.promise.state]
        shown_id = shown(self._short(call.promise.id) if layout.short_ids else call.promise.id)
        return Text.assemble(
            (guides, "dim"),
            (plain if self._ascii_only else symbol, colour),
            " ",
            (self._name(call), "bold" if function_of(call.promise) else ""),
            (f"  {shown_id}" if shown_id else "", "dim"),
            no_wrap=True,
            overflow=self._overflow,
        )

    def _short(self, id: str) -> str:
        if id == self._root or not id.startswith(self._root):
            return id.removeprefix(self._root)
        return ("..." if self._ascii_only else "…") + id.removeprefix(self._root)

    def _guides(self, follow: list[bool]) -> str:
        """``follow``: whether a sibling follows, for each level down to the call."""
        if not follow:
            return ""
        passing, branch, last = ("|  ", "+- ", "`- ") if self._ascii_only else ("│  ", "├─ ", "└─ ")
        above = "".join(passing if follows else "   " for follows in follow[:-1])
        return above + (branch if follow[-1] else last)

    def _name(self, call: Call) -> str:
        if call.role is Role.TIMER:
            return f"{call.name} {duration(call.promise.timeout_at - call.promise.created_at)}"
        return shown(call.name)

    def _state(self, call: Call) -> Text:
        promise = call.promise
        _, _, colour, words = STATES[promise.state]
        end = self._now if call.settled_at is None else call.settled_at
        return Text(f"{words} {duration(end - promise.created_at)}", colour)

    def _group(self, call: Call) -> Text:
        return Text("" if call.role is Role.TIMER else shown(call.group))  # a timer has a target, but nobody runs it

    def _task(self, call: Call) -> Text:
        task = call.task
        if task is None or call.role is Role.TIMER:
            return Text()
        highlighted = {TaskState.ACQUIRED: "cyan", TaskState.PENDING: "yellow", TaskState.HALTED: "magenta"}
        return Text(self._attempt(task), highlighted.get(task.state, "dim"))

    def _attempt(self, task: CallTask) -> str:
        if task.pid:
            return f"attempt {task.attempt} by {shown(task.pid[:PID_SHOWN])}"
        return f"{task.state}, attempt {task.attempt}" if task.attempt else task.state

    # ── below the table ──

    def _legend(self) -> list[Text]:
        meaning = legend(self._rows, self._ascii_only)
        return [Text(), meaning] if meaning and self._layout[0].stripe else []

    def _outcomes(self) -> list[Text]:
        """Return the root's result, each error once, at the deepest call that has it, and what is wrong with tasks."""
        lines: dict[str, Text] = {}
        for call in self._calls:
            if call.task is not None and call.task.trouble:
                lines[call.promise.id] = self._line(
                    (f"{self._name(call)}: {self._cut(call.task.trouble)}", "yellow"),
                    (f"  {shown(call.promise.id)}", "dim"),
                )
            elif call.group and not call.is_settled and call.phases and call.phases[-1].reason == NOBODY:
                told = f"no worker of group {shown(call.group)} is connected"
                lines[told] = self._line((told, "yellow"))
            if call.promise.state is PromiseState.REJECTED and call.error is not None:
                lines[call.error] = self._line(
                    (f"{self._name(call)} failed: ", "red"),
                    self._cut(call.error),
                    (f"  {shown(call.promise.id)}", "dim"),
                )
        root = self._calls[0]
        if root.promise.state is PromiseState.RESOLVED and root.result is not None:
            lines[""] = self._line(f"result: {self._cut(msgspec.json.encode(root.result).decode())}")
        return [Text(), *lines.values()] if lines else []

    def _told(self) -> list[Text]:
        return [Text(), Text(shown(" ".join(self._story)))] if self._story else []

    def _line(self, *parts: str | tuple[str, str]) -> Text:
        return Text.assemble(*parts, no_wrap=not self._folding, overflow=None if self._folding else self._overflow)

    @property
    def _overflow(self) -> OverflowMethod:
        return "crop" if self._ascii_only else "ellipsis"

    def _cut(self, text: str) -> str:
        """Cut long text for a terminal, so as not to flood it; other output stays whole and can be searched."""
        if self._console.width >= UNBOUNDED or len(text) <= OUTCOME_SHOWN:
            return shown(text)
        return f"{shown(text[:OUTCOME_SHOWN])} ... ({len(text)} characters)"


def _most_telling(calls: list[Call], room: int) -> list[Call]:
    """Choose pending calls first, but keep the order of the tree."""
    chosen = sorted(range(len(calls)), key=lambda at: (calls[at].is_settled, at))[:room]
    return [calls[at] for at in sorted(chosen)]
