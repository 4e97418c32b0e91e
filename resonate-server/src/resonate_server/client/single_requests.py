"""Commands that are one request each: ``resonate promises …``, ``tasks …``, ``schedules …``, ``invoke`` and ``chains``.

What only workers ask, such as claiming a task, has none.
"""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Any

import click
import msgspec
from msgspec import Struct

from resonate_server.client.commands import ServerGroup, connect, fail, given, request
from resonate_server.client.values import (
    ARRAY,
    DURATION,
    OBJECT,
    PAYLOAD,
    base64_of,
    json_or_text,
    printable,
    readable,
)
from resonate_server.protocol.payload import NOT_JSON
from resonate_server.protocol.records import PromiseState, TaskState


def _option(*names: str, **attributes: Any) -> click.Option:
    """``names``: of the option, and of the request's member if that is another one."""
    return click.Option(names, **attributes)


def _limit(default: int) -> click.Option:
    return _option("--limit", type=click.IntRange(1, 1_000), default=default, show_default=True, help="Page size.")


def _state(states: type[StrEnum]) -> click.Option:
    return _option("--state", type=click.Choice([state.value for state in states]), help="Only those in this state.")


ID = click.Argument(["id"])
VERSION = _option("--version", type=int, required=True, help="The version that the task must have.")
CURSOR = _option("--cursor", help="The cursor from the previous page.")


promises = ServerGroup("promises", help="Show, create, settle and search promises.")
tasks = ServerGroup("tasks", help="Show, release, halt and search tasks.")
schedules = ServerGroup("schedules", help="Show, create, delete and search schedules.")
GROUPS = {"promise": promises, "task": tasks, "schedule": schedules}


def _command(
    kind: str,
    help: str,
    *params: click.Parameter,
    name: str = "",
    members: Callable[..., dict[str, Any]] = given,
    then: Callable[[Any, dict[str, Any]], None] = lambda *_: None,
) -> None:
    """Add a command that sends a request of that kind, whose ``members`` are by default the command's parameters;
    ``then`` gets the answer, and what was sent."""

    def run(**arguments: Any) -> None:
        sent = members(**arguments)
        then(request(kind, sent), sent)

    group, _, verb = kind.partition(".")
    named = name or verb.replace("_", "-")
    GROUPS[group].add_command(click.Command(named, params=[*params], callback=run, help=help))


@promises.command("get")
@click.argument("id")
@click.option("--json", "verbatim", is_flag=True, help="The raw answer of the server, with data in base64.")
def get_promise(id: str, verbatim: bool) -> None:
    """Show a promise, with its parameter and its value decoded; for an error, its type and message."""
    request("promise.get", {"id": id}, None if verbatim else as_read)


def as_read(answer: Any) -> Any:
    """Return a promise with its parameter and its value decoded."""
    match answer:
        case {"promise": {"param": dict(param), "value": dict(value)} as promise}:
            return {"promise": promise | {"param": readable(param), "value": readable(value)}}
    return answer


def _warn_if_settled_before(answer: Any, sent: dict[str, Any]) -> None:
    """The first settlement wins: later ones get the result that stands."""
    wanted = sent["state"], sent.get("value", {})
    match answer:
        case {"promise": {"state": str(state), "value": value}} if (state, value) != wanted:
            click.echo(f"Note: it was settled before, as {state}; nothing has changed", err=True)


def _promise(timeout: int, **others: Any) -> dict[str, Any]:
    """``timeout``: from now, in ms."""
    return given(timeoutAt=connect().now_ms() + timeout, **others)


def _new_promise(internal: bool, tags: dict[str, Any] | None, **others: Any) -> dict[str, Any]:
    return _promise(tags=({} if internal else {"resonate:external": "true"}) | (tags or {}), **others)


_command(
    "promise.create",
    "Create a pending promise that others may await; an existing one is left as it is.\n\n"
    "The data of --param is stored in base64, as SDKs read it.",
    ID,
    _option("--timeout", type=DURATION, required=True, help="How long it may stay pending, like 1h."),
    _option("--param", type=PAYLOAD, help='Its parameter, for example \'{"data": "hello"}\'.'),
    _option("--tags", type=OBJECT, help="Its tags: an object of strings."),
    _option("--internal", is_flag=True, help="Leave out the tag resonate:external=true, so that nothing can await it."),
    members=_new_promise,
)
for _name, _settled, _help in (
    ("resolve", PromiseState.RESOLVED, "Settle a promise with success."),
    ("reject", PromiseState.REJECTED, "Settle a promise with failure."),
    ("cancel", PromiseState.CANCELED, "Settle a promise as cancelled: nobody wants its result any more."),
):
    _value = _option("--value", type=PAYLOAD, help='The result, for example \'{"data": "ok"}\'.')
    _members = partial(given, state=_settled.value)
    _command("promise.settle", _help, ID, _value, name=_name, members=_members, then=_warn_if_settled_before)
_command(
    "promise.search",
    "List promises, sorted by id.",
    _state(PromiseState),
    _option("--tags", type=OBJECT, help="Only those with all of these tags."),
    _limit(100),
    CURSOR,
)


_command("task.get", "Show a task.", ID)
_command("task.release", "Release a claimed task.", ID, VERSION)
_command("task.halt", "Halt a task: no worker is offered it until it is continued.", ID)
_command("task.continue", "Continue a halted task: offer it to workers again.", ID)
_command("task.search", "List tasks, sorted by id.", _state(TaskState), _limit(100), CURSOR)


def _warn_if_nobody_runs(answer: Any, _: object) -> None:
    match answer:
        case {"schedule": {"promiseTags": dict(tags)}} if "resonate:target" not in tags:
            click.echo("Warning: without the tag resonate:target nobody runs its promises", err=True)


_command("schedule.get", "Show a schedule.", ID, then=_warn_if_nobody_runs)
_command(
    "schedule.create",
    "Create a schedule; an existing one is left as it is.\n\n"
    "Weekdays are 1 (Sunday) to 7 (Saturday), or names. The data of --promise-param is stored in base64.",
    ID,
    _option("--cron", required=True, help="When, in UTC: minute hour day month weekday; seconds may come first."),
    _option(
        "--promise-id",
        "promiseId",
        required=True,
        help="Template of the promises' ids: {{.id}} is the schedule's, {{.timestamp}} ms.",
    ),
    _option(
        "--promise-timeout",
        "promiseTimeout",
        type=DURATION,
        required=True,
        help="How long a promise may stay pending, like 1h.",
    ),
    _option(
        "--promise-param",
        "promiseParam",
        type=PAYLOAD,
        help='The promises\' parameter, for example \'{"data": "hi"}\'.',
    ),
    _option(
        "--promise-tags", "promiseTags", type=OBJECT, help="The promises' tags; resonate:target names who runs them."
    ),
    then=_warn_if_nobody_runs,
)
_command("schedule.delete", "Delete a schedule, but not the promises that it has created.", ID)
_command(
    "schedule.search",
    "List schedules, sorted by id.",
    _option("--tags", type=OBJECT, help="Only those whose promises have all of these tags."),
    _limit(10),
    CURSOR,
)


@click.command(short_help="Have a worker run a function.")
@click.argument("id")
@click.option("-f", "--func", required=True, help="The name under which workers registered the function.")
@click.option("--arg", "args", multiple=True, help="An argument: JSON, or else text. May be given several times.")
@click.option("--json-args", type=ARRAY, help="All arguments as one JSON array, instead of --arg.")
@click.option("--version", type=int, default=1, show_default=True, help="Version of the function.")
@click.option("-t", "--timeout", type=DURATION, default="1h", show_default=True, help="How long it may take in all.")
@click.option("--target", default="default", show_default=True, help="A group, or an address.")
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
    begin = connect().now_ms() + (delay or 0)
    tags = {"resonate:target": target if "://" in target else f"poll://any@{target}"}
    if delay is not None:
        tags["resonate:delay"] = str(begin)
    param = {"data": base64_of({"func": func, "args": arguments, "version": version})}
    request("promise.create", {"id": id, "timeoutAt": begin + timeout, "param": param, "tags": tags}, as_read)


class _ListedChain(Struct):
    id: str


class _ChainList(Struct):
    chains: list[_ListedChain]


@click.command(short_help="List the newest chains.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="Maximum number.")
def chains(limit: int) -> None:
    """Print the ids of the newest chains, one per line, newest first.

    Only this server can list them: others answer that they do not know the request.
    """
    try:
        page = msgspec.json.decode(connect().get(f"ui/api/chains?limit={limit}"), type=_ChainList)
    except NOT_JSON:
        fail("the server does not list chains")
    for chain in page.chains:
        click.echo(printable(chain.id).encode())  # UTF-8 whatever the locale: it is passed on as an argument
