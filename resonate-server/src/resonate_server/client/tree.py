"""``resonate tree``: the calls of a chain, drawn once or followed while it runs."""

import os

import click
from rich.console import Console

from resonate_server.client.calls import CallTree
from resonate_server.client.commands import fail, where
from resonate_server.client.drawing import UNBOUNDED, Drawing
from resonate_server.client.follow import ANSWER_S, follow
from resonate_server.client.server_connection import CallFailed
from resonate_server.client.values import now_ms


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
        raise SystemExit(follow(CallTree(where().connection(ANSWER_S), id), console))
    chain = CallTree(where().connection(), id)
    try:
        calls = chain.read()
    except CallFailed as error:
        fail(str(error))
    console.print(Drawing(calls, console, now_ms(), chain.story).whole())


def _console() -> Console:
    """Return a console as wide as the terminal; other output is not wrapped, so that it can be searched."""
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNBOUNDED
    return console
