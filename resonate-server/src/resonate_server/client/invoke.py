"""``resonate invoke``: have a worker run a function."""

from typing import Any

import click

from resonate_server.client.commands import request
from resonate_server.client.promises import as_read
from resonate_server.client.values import ARRAY, DURATION, base64_of, json_or_text, now_ms


@click.command(short_help="Have a worker run a function.")
@click.argument("id")
@click.option("-f", "--func", required=True, help="The name under which workers registered the function.")
@click.option("--arg", "args", multiple=True, help="An argument: JSON, or else text. May be given several times.")
@click.option("--json-args", type=ARRAY, help="All arguments as one JSON array, instead of --arg.")
@click.option("--version", type=int, default=1, show_default=True, help="Version of the function.")
@click.option("-t", "--timeout", type=DURATION, default="1h", show_default=True, help="How long it may take in all.")
@click.option("--target", default="poll://any@default", show_default=True, help="The target that runs it.")
@click.option("--delay", type=DURATION, help="How long to wait before it starts.")
def invoke(
    id: str,
    func: str,
    args: tuple[str, ...],
    json_args: list[Any] | None,
    version: int,
    timeout: int,
    target: str,
    delay: int | None,
) -> None:
    """Have a worker run a function under the id ID, and print its promise with the call decoded.

    This does not wait for the result: see it with "resonate promises get ID", or watch with "resonate tree ID".
    """
    if args and json_args is not None:
        raise click.UsageError("--arg and --json-args cannot be combined")
    arguments = [json_or_text(arg) for arg in args] if json_args is None else json_args
    begin = now_ms() + (delay or 0)
    tags = {"resonate:target": target}
    if delay is not None:
        tags["resonate:delay"] = str(begin)
    param = {"data": base64_of({"func": func, "args": arguments, "version": version})}
    promise = {"id": id, "timeoutAt": begin + timeout, "param": param, "tags": tags}
    request("promise.create", promise, as_read)
