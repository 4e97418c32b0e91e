"""``resonate report``: judge a chain by the logs of its workers."""

import sys
import time
from typing import Any, BinaryIO

import click
import msgspec
from rich.console import Console

from resonate_server.client.account import Case, Fault, FaultKind, account, failures, parts_of, read_runs, verdict
from resonate_server.client.calls import Call, CallTree
from resonate_server.client.commands import connect, fail, shown
from resonate_server.client.server_connection import CallFailed
from resonate_server.client.values import DURATION
from resonate_server.protocol.payload import NOT_JSON

INDENT = "           "

LOOK_PAUSE_S = 0.2


@click.command(short_help="Judge a chain by the logs of its workers.")
@click.argument("id")
@click.option("--expect", "expected", metavar="JSON", help="The expected answer.")
@click.option(
    "--answer", metavar="JSON", help='The answer that the caller got, {"message": ...} [default: the result].'
)
@click.option("--sent", metavar="MS", type=int, help="When the caller sent its request [default: when ID was created].")
@click.option("--answered", metavar="MS", type=int, help="When it had the answer [default: when ID was settled].")
@click.option("--takes", type=DURATION, default=0, help="How long the chain sleeps or works, like 5s.")
@click.option("--fault", type=click.Choice([kind.value for kind in FaultKind]), help="The fault that hit a service.")
@click.option("--struck", metavar="NAME", help="Which service; needed with --fault, as are --struck-at and --over-at.")
@click.option("--group", metavar="GROUP", help="The group of its workers [default: the server was struck].")
@click.option("--struck-at", metavar="MS", type=int, help="When the fault began.")
@click.option("--over-at", metavar="MS", type=int, help="When it was over: the service was started again, or thawed.")
@click.option("--patience", type=DURATION, default=0, help="How long to wait for a server that is starting, like 60s.")
def report(
    id: str,
    expected: str | None,
    answer: str | None,
    sent: int | None,
    answered: int | None,
    takes: int,
    patience: int,
    **fault: Any,
) -> None:
    """Judge the chain ID: tell how often each function ran, when the answer came, what a fault cost, and the verdict.

    The workers' logs are read from standard input, as "scripts/logs.sh" prints them: runs are counted there, because
    the server should not be its own witness. Times are in ms since the epoch.

    The exit status is 0 if the proof holds: the answer is what --expect says, and every function that calls nothing ran
    once, or twice if the fault broke off its first run. Otherwise it is 1, and the reason is printed.
    """
    struck = _fault(**fault)
    calls, ahead = _settled_calls(id, patience)
    root = calls[0]
    runs = read_runs(_logs(), [call.promise.id for call in calls])
    case = Case(
        calls=calls,
        parts=parts_of(calls, runs),
        fault=struck,
        sent=root.promise.created_at - ahead if sent is None else sent,
        answered=(root.settled_at or 0) - ahead if answered is None else answered,
        ahead=ahead,
        takes=takes,
        message=root.result if answer is None else _message(answer),
        expected=None if expected is None else _json(expected),
    )
    console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
    for line in account(case):
        console.print(shown(INDENT + line[1:] if line.startswith(" ") else line))
    if reasons := failures(case):
        console.print(shown(f"Something went wrong: {'; '.join(reasons)}."), style="bold red")
        raise SystemExit(1)
    console.print(shown(verdict(case)), style="bold green")


def _fault(
    fault: str | None, struck: str | None, group: str | None, struck_at: int | None, over_at: int | None
) -> Fault | None:
    if fault is None:
        return None
    if struck is None or struck_at is None or over_at is None:
        raise click.UsageError("--fault needs --struck, --struck-at and --over-at")
    return Fault(kind=FaultKind(fault), name=struck, group=group, began=struck_at, ended=over_at)


def _logs() -> BinaryIO:
    stdin = sys.stdin
    if stdin is None or stdin.isatty():
        raise click.UsageError("the logs of the workers are missing: scripts/logs.sh | resonate report ID")
    return stdin.buffer


def _settled_calls(id: str, patience_ms: int) -> tuple[list[Call], int]:
    """Return the calls, and how far the clock that dates them is ahead of this machine's, in ms."""
    tree = CallTree(connect(), id)
    end = time.monotonic() + patience_ms / 1_000
    while True:
        try:
            calls = tree.read()
            break
        except CallFailed as error:
            if not error.is_transient or time.monotonic() >= end:
                raise
        time.sleep(LOOK_PAUSE_S)
    if not calls[0].is_settled:
        fail(f"{id} is still pending: there is nothing to judge yet")
    return calls, tree.ahead


def _message(answer: str) -> Any:
    """Return the answer's message; ``None`` if the answer is not JSON."""
    try:
        decoded = msgspec.json.decode(answer)
    except NOT_JSON:
        return None
    return decoded.get("message") if isinstance(decoded, dict) else decoded


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except NOT_JSON as error:
        raise click.UsageError(f"--expect is not JSON: {error}") from None
