"""``resonate tree``: the calls of a chain, drawn."""

import os

import click
import msgspec
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from resonate_server.client.calls import Call, fetch
from resonate_server.client.commands import fail, where, with_server
from resonate_server.client.connection import CallFailed
from resonate_server.client.values import now_ms, printable, shown_duration
from resonate_server.protocol.records import PromiseState, TaskState

PID_SHOWN = 8
"""Characters of a process id: enough to tell processes apart."""

UNBOUNDED = 100_000
"""More columns than any drawing has."""

NARROWEST_CALL = 20
"""Columns that are kept for the calls themselves, at the cost of what stands beside them."""

STATES = {
    PromiseState.PENDING: ("●", "o", "yellow", "pending for"),
    PromiseState.RESOLVED: ("✔", "+", "green", "resolved in"),
    PromiseState.REJECTED: ("✘", "x", "red", "rejected after"),
    PromiseState.CANCELED: ("✘", "x", "magenta", "cancelled after"),
    PromiseState.TIMEDOUT: ("✘", "x", "red", "timed out after"),
}
"""Symbol, the same in ASCII, colour, and how the state is told together with a duration."""


@click.command(short_help="Draw the calls of a chain.")
@click.argument("id")
@with_server
def tree(id: str) -> None:
    """Draw the calls of a chain: what was called, in which state it is and since when, and who runs it.

    ID is the promise that started the chain, or any one below it to see only that part.
    """
    try:
        calls = fetch(where().connection(), id)
    except CallFailed as error:
        fail(str(error))
    except (msgspec.ValidationError, KeyError, TypeError):
        fail("the server answers with records of another kind than this tool knows")
    console = _console()
    console.print(draw(calls, console, now_ms()))


def _console() -> Console:
    """As wide as the terminal; what goes elsewhere is not folded, so that it can be searched."""
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNBOUNDED
    return console


def draw(calls: list[Call], console: Console, now: int) -> Group:
    """The drawing, at time ``now`` (ms).

    Where it would be too wide, the root's id stands above it, and the others leave out what they share with it.
    """
    ascii_only = not console.encoding.startswith("utf")
    root = calls[0].promise.id
    table = _table(calls, {call.promise.id: call.promise.id for call in calls}, ascii_only, now)
    if Measurement.get(console, console.options.update(max_width=UNBOUNDED), table).maximum <= console.width:
        return Group(table, *_outcomes(calls))
    shortened = {call.promise.id: _short(call.promise.id, root, ascii_only) for call in calls}
    return Group(Text(printable(root)), Text(), _table(calls, shortened, ascii_only, now), *_outcomes(calls))


def _short(id: str, root: str, ascii_only: bool) -> str:
    if id == root or not id.startswith(root):
        return id.removeprefix(root)
    return ("..." if ascii_only else "…") + id.removeprefix(root)


def _table(calls: list[Call], shown_ids: dict[str, str], ascii_only: bool, now: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("CALL", min_width=NARROWEST_CALL)
    for name in ("STATE", "GROUP", "TASK"):
        table.add_column(name, no_wrap=True)
    for call in calls:
        shown_id = printable(shown_ids[call.promise.id])
        table.add_row(_call(call, shown_id, ascii_only), _state(call, now), _group(call), _task(call))
    return table


def _call(call: Call, shown_id: str, ascii_only: bool) -> Text:
    symbol, plain, colour, _ = STATES[call.promise.state]
    return Text.assemble(
        (_guides(call.more, ascii_only), "dim"),
        (plain if ascii_only else symbol, colour),
        " ",
        (printable(_name(call)), "bold" if call.function else ""),
        (f"  {shown_id}" if shown_id else "", "dim"),
        no_wrap=True,
        overflow="ellipsis",
    )


def _guides(more: tuple[bool, ...], ascii_only: bool) -> str:
    """The lines that lead to a call from its ancestors."""
    if not more:
        return ""
    passing, branch, last = ("|  ", "+- ", "`- ") if ascii_only else ("│  ", "├─ ", "└─ ")
    above = "".join(passing if follows else "   " for follows in more[:-1])
    return above + (branch if more[-1] else last)


def _name(call: Call) -> str:
    if call.is_timer:
        return f"sleep {shown_duration(call.promise.timeout_at - call.promise.created_at)}"
    return call.function or ("step" if call.is_step else "promise")


def _state(call: Call, now: int) -> Text:
    promise = call.promise
    _, _, colour, words = STATES[promise.state]
    end = promise.settled_at if isinstance(promise.settled_at, int) else now
    return Text(f"{words} {shown_duration(end - promise.created_at)}", colour)


def _group(call: Call) -> Text:
    """Empty for a timer: it has a target, but nobody runs it."""
    return Text("" if call.is_timer else printable(call.group))


def _task(call: Call) -> Text:
    task = call.task
    if task is None or call.is_timer:
        return Text()
    holder = f" by {printable(task.pid[:PID_SHOWN])}" if isinstance(task.pid, str) else ""
    highlighted = {TaskState.ACQUIRED: "cyan", TaskState.PENDING: "yellow", TaskState.HALTED: "magenta"}
    return Text(f"{task.state} v{task.version}{holder}", highlighted.get(task.state, "dim"))


def _outcomes(calls: list[Call]) -> list[Text]:
    """What came of it: the root's result, and every error once, at the call where it is deepest."""
    lines: dict[str, Text] = {}
    for call in calls:
        if call.promise.state is PromiseState.REJECTED and call.error is not None:
            lines[call.error] = Text.assemble(
                (f"{printable(_name(call))} failed: ", "red"),
                printable(call.error),
                (f"  {printable(call.promise.id)}", "dim"),
            )
    root = calls[0]
    if root.promise.state is PromiseState.RESOLVED and root.result is not None:
        lines[""] = Text(f"result: {printable(msgspec.json.encode(root.result).decode())}")
    return [Text(), *lines.values()] if lines else []
