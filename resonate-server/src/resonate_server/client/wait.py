"""``resonate wait``: wait until a chain reaches a state, for scripts."""

import sys
import time
from typing import Any

import click
from msgspec import Struct

from resonate_server.client.calls import Call, CallTask, CallTree
from resonate_server.client.commands import ANSWER_S, connect, ended_by_signals, fail, shown
from resonate_server.client.server_connection import CallFailed
from resonate_server.client.values import DURATION
from resonate_server.protocol.records import Role, TaskState

READ_PAUSE_S = 0.1

LOOK_S = 1.0
"""How long a look at the chain may take although the time is over: without any time it still looks once."""

NOT_FOUND = 404

SETTLED_BEFORE = 3
TIME_IS_OVER = 4

STATES = {TaskState.ACQUIRED: "running", TaskState.SUSPENDED: "suspended", TaskState.FULFILLED: "settled"}


class Goal(Struct, frozen=True):
    """``name``: the call that has to reach ``state``, named as in the tree, or ``step`` for any step; empty for the
    call ID itself."""

    name: str
    state: str

    def is_about(self, call: Call) -> bool:
        return self.name == call.name or (self.name == "step" and call.role is Role.STEP)

    def __str__(self) -> str:
        return f"{self.name or 'it'} is {self.state}"


class GoalType(click.ParamType[Goal]):
    """``ship=running``, or only ``running``."""

    name = "goal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Goal:
        if isinstance(value, Goal):
            return value
        name, _, state = value.rpartition("=")
        if state not in STATES.values() or value.startswith("="):
            self.fail(
                f"{value!r}: write it like settled or ship=running; a state is one of {', '.join(STATES.values())}",
                param,
                ctx,
            )
        return Goal(name, state)


class Reached(Struct, frozen=True):
    """A call that has reached its goal. ``task``: the one in which it runs; for a step, that of its function."""

    call: Call
    state: str
    task: CallTask | None

    def line(self) -> str:
        """Return STATE, ATTEMPT, WORKER and ID, separated by tabs."""
        attempt = "-" if self.task is None else str(self.task.attempt)
        return "\t".join([self.state, attempt, shown(self._pid or "-"), shown(self.call.promise.id)])

    def sentence(self) -> str:
        """Return the same for people."""
        words = f"{self.call.name} ({self.call.promise.id}) is {self.state}"
        words += f", attempt {self.attempt}" if self.attempt else ""
        return shown(words + (f", on worker {self._pid}" if self._pid else ""))

    @property
    def _pid(self) -> str:
        return (self.task.pid if self.task else None) or ""

    @property
    def attempt(self) -> int:
        return 0 if self.task is None else self.task.attempt


@click.command(short_help="Wait until a chain reaches a state.")
@click.argument("id")
@click.option(
    "--until",
    "goals",
    type=GoalType(),
    metavar="[NAME=]STATE",
    multiple=True,
    default=["settled"],
    help="What to wait for: running, suspended or settled. Several are waited for in turn [default: settled].",
)
@click.option("--timeout", type=DURATION, help="How long to wait in all, like 30s [default: forever].")
def wait(id: str, goals: tuple[Goal, ...], timeout: int | None) -> None:
    """Wait until the call ID, or a call below it, is running, suspended or settled.

    NAME selects a call by its name in "resonate tree", which is that of its function; "step" stands for any step. The
    command also waits for an ID that does not exist yet, and for a server that goes away.

    Each --until prints one line as soon as it is reached: on a terminal a sentence, elsewhere STATE, ATTEMPT, WORKER
    and ID of the call, separated by tabs, with "-" for a missing one. A state that lasts only a few milliseconds may
    be missed.

    \b
    Exit status:
      0    every goal was reached
      1    no server at the beginning, or no permission
      3    ID was settled before
      4    the timeout has expired
      130  Ctrl-C
    """
    end = float("inf") if timeout is None else time.monotonic() + timeout / 1_000
    waiter = Waiter(CallTree(connect(ANSWER_S, max(end, time.monotonic() + LOOK_S)), id), end)
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    with ended_by_signals():
        for goal in goals:
            reached = waiter.until(goal)
            click.echo(reached.sentence() if is_terminal else reached.line())


class Waiter:
    """``end``: the deadline, by the monotonic clock."""

    def __init__(self, tree: CallTree, end: float) -> None:
        self._tree = tree
        self._end = end
        self._server_was_there = False
        self._obstacle = ""
        self._told: set[tuple[str, str]] = set()
        """Troubles already reported, by call and the reason that its worker gave."""

    def until(self, goal: Goal) -> Reached:
        """Wait for ``goal``; end the command if it cannot be reached."""
        while True:
            calls = self._look()
            if (reached := find(calls, goal)) is not None:
                return reached
            if calls and calls[0].is_settled:
                fail(f"{calls[0].promise.id} was settled before {goal}", SETTLED_BEFORE)
            if time.monotonic() >= self._end:
                fail(f"timed out before {goal}{self._obstacle}", TIME_IS_OVER)
            time.sleep(READ_PAUSE_S)

    def _look(self) -> list[Call]:
        """Return the calls; empty while there are none to see."""
        try:
            calls = self._tree.read()
        except CallFailed as error:
            is_over = time.monotonic() >= self._end and error.is_transient
            if not (is_over or error.status == NOT_FOUND or (self._server_was_there and error.is_transient)):
                raise
            if not (is_over or self._obstacle):
                click.echo(f"waiting: {shown(str(error))}", err=True)
            self._server_was_there = True
            if not (is_over and self._obstacle):  # this look may have had no time left
                self._obstacle = f": {error}"
            return []
        self._server_was_there = True
        self._obstacle = ""
        self._tell_troubles(calls)
        return calls

    def _tell_troubles(self, calls: list[Call]) -> None:
        """Report each trouble once; that of a call that keeps coming back, again only if its workers give another
        reason."""
        for call in calls:
            if call.task is None or not call.task.trouble:
                continue
            trouble = f"{call.name}: {call.task.trouble}"
            self._obstacle = f": {trouble}"
            if (about := (call.promise.id, call.task.why)) not in self._told:
                self._told.add(about)
                click.echo(f"waiting: {shown(trouble)}", err=True)


def find(calls: list[Call], goal: Goal, after: int = 0) -> Reached | None:
    """Return the first call that has reached the goal; only an attempt later than ``after`` counts as running."""
    for call in calls:
        if goal.is_about(call) or (not goal.name and call is calls[0]):
            task = (call.host or call).task
            reached = Reached(call, _state(call, task), task)
            if reached.state == goal.state and not (reached.state == "running" and reached.attempt <= after):
                return reached
    return None


def _state(call: Call, task: CallTask | None) -> str:
    """Empty while it waits for a worker."""
    if call.is_settled:
        return "settled"
    return STATES.get(task.state, "") if task is not None else ""
