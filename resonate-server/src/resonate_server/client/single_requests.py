"""Commands that are one request each: ``resonate promises …``, ``tasks …``, ``schedules …``, ``invoke`` and ``chains``.

Workers send the requests about tasks by themselves, and people to repair or to learn.
"""

from collections.abc import Callable
from typing import Any

import click
import msgspec
from msgspec import Struct

from resonate_server.client.commands import ServerGroup, fail, given, request, where
from resonate_server.client.server_connection import CallFailed
from resonate_server.client.values import (
    ARRAY,
    DURATION,
    OBJECT,
    base64_of,
    encoded,
    json_or_text,
    now_ms,
    printable,
    readable,
)
from resonate_server.protocol.payload import NOT_JSON
from resonate_server.protocol.records import PromiseState, TaskState

type Object = dict[str, Any]

_value = click.option("--value", type=OBJECT, help='The result, for example \'{"data": "ok"}\'.')
_pid = click.option("--pid", required=True, help="The process that claims it.")
_ttl = click.option("--ttl", type=DURATION, required=True, help="How long the lease lasts, like 15s.")
_version = click.option("--version", type=int, required=True, help="The version that the task must have.")
_cursor = click.option("--cursor", help="The cursor from the previous page.")


def _limit[F: Callable[..., Any]](default: int) -> Callable[[F], F]:
    return click.option("--limit", type=click.IntRange(1, 1_000), default=default, show_default=True, help="Page size.")


# ── promises ──


@click.group(cls=ServerGroup)
def promises() -> None:
    """Show, create, settle and search promises."""


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


@promises.command("create")
@click.argument("id")
@click.option("--timeout", type=DURATION, required=True, help="How long it may stay pending, like 1h.")
@click.option("--param", type=OBJECT, help='Its parameter, for example \'{"data": "hello"}\'.')
@click.option("--tags", type=OBJECT, help="Its tags: an object of strings.")
@click.option(
    "--internal", is_flag=True, help="Leave out the tag resonate:external=true, so that nothing can await it."
)
def create_promise(id: str, timeout: int, param: Object | None, tags: Object | None, internal: bool) -> None:
    """Create a pending promise that others may await; an existing one is left as it is.

    The data of --param is stored in base64, as SDKs read it.
    """
    awaitable = {} if internal else {"resonate:external": "true"}
    promise = {"id": id, "timeoutAt": now_ms() + timeout, "tags": awaitable | (tags or {})}
    request("promise.create", promise | given(param=encoded(param)))


@promises.command()
@click.argument("id")
@_value
def resolve(id: str, value: Object | None) -> None:
    """Settle a promise with success."""
    _settle(id, PromiseState.RESOLVED, value)


@promises.command()
@click.argument("id")
@_value
def reject(id: str, value: Object | None) -> None:
    """Settle a promise with failure."""
    _settle(id, PromiseState.REJECTED, value)


@promises.command()
@click.argument("id")
@_value
def cancel(id: str, value: Object | None) -> None:
    """Settle a promise as cancelled: nobody wants its result any more."""
    _settle(id, PromiseState.CANCELED, value)


def _settle(id: str, state: PromiseState, value: Object | None) -> None:
    """The first settlement wins: later ones get, and print, the result that stands."""
    request("promise.settle", {"id": id, "state": state.value, **given(value=encoded(value))})


@promises.command("search")
@click.option("--state", type=click.Choice([state.value for state in PromiseState]), help="Only those in this state.")
@click.option("--tags", type=OBJECT, help="Only those with all of these tags.")
@_limit(100)
@_cursor
def search_promises(state: str | None, tags: Object | None, limit: int, cursor: str | None) -> None:
    """List promises, sorted by id."""
    request("promise.search", given(state=state, tags=tags, limit=limit, cursor=cursor))


@promises.command()
@click.argument("awaited")
@click.argument("awaiter")
def register_callback(awaited: str, awaiter: str) -> None:
    """Resume the task of AWAITER when AWAITED is settled."""
    request("promise.register_callback", {"awaited": awaited, "awaiter": awaiter})


@promises.command()
@click.argument("awaited")
@click.argument("address")
def register_listener(awaited: str, address: str) -> None:
    """Notify ADDRESS when AWAITED is settled: http(s)://… or poll://uni@group/id."""
    request("promise.register_listener", {"awaited": awaited, "address": address})


# ── tasks ──


@click.group(cls=ServerGroup)
def tasks() -> None:
    """Show, claim, end, halt and search tasks."""


@tasks.command("get")
@click.argument("id")
def get_task(id: str) -> None:
    """Show a task."""
    request("task.get", {"id": id})


@tasks.command("create")
@click.argument("id")
@_pid
@_ttl
@click.option("--timeout", type=DURATION, required=True, help="How long its promise may stay pending, like 1h.")
@click.option("--param", type=OBJECT, help="The promise's parameter, sent as it is.")
@click.option("--tags", type=OBJECT, help="The promise's tags; resonate:target is required.")
def create_task(id: str, pid: str, ttl: int, timeout: int, param: Object | None, tags: Object | None) -> None:
    """Create a promise and claim its task at once."""
    data = {"id": id, "timeoutAt": now_ms() + timeout, **given(param=param, tags=tags)}
    request("task.create", {"pid": pid, "ttl": ttl, "action": _action("promise.create", data)})


@tasks.command()
@click.argument("id")
@_pid
@_version
@_ttl
def claim(id: str, pid: str, version: int, ttl: int) -> None:
    """Claim a pending task."""
    request("task.acquire", {"id": id, "version": version, "pid": pid, "ttl": ttl})


@tasks.command()
@click.argument("id")
@_version
@click.option("--action", type=OBJECT, required=True, help="A promise.create or promise.settle request.")
def fence(id: str, version: int, action: Object) -> None:
    """Create or settle another promise, but only if the task is still held at that version."""
    request("task.fence", {"id": id, "version": version, "action": _with_head(action)})


@tasks.command()
@click.option("--pid", required=True, help="The process that holds them.")
@click.option("--tasks", "held", type=ARRAY, required=True, help='For example \'[{"id": "x", "version": 1}]\'.')
def heartbeat(pid: str, held: list[Any]) -> None:
    """Extend the leases of tasks."""
    request("task.heartbeat", {"pid": pid, "tasks": held})


@tasks.command()
@click.argument("id")
@_version
@click.option("--actions", type=ARRAY, required=True, help="Requests to await: promise.register_callback.")
def suspend(id: str, version: int, actions: list[Any]) -> None:
    """Suspend a task until a promise that it awaits is settled."""
    request("task.suspend", {"id": id, "version": version, "actions": [_with_head(action) for action in actions]})


@tasks.command()
@click.argument("id")
@_version
@click.option("--action", type=OBJECT, required=True, help="A promise.settle request for the task's own promise.")
def complete(id: str, version: int, action: Object) -> None:
    """End a task by settling its promise."""
    request("task.fulfill", {"id": id, "version": version, "action": _with_head(action)})


@tasks.command()
@click.argument("id")
@_version
def release(id: str, version: int) -> None:
    """Release a claimed task."""
    request("task.release", {"id": id, "version": version})


@tasks.command()
@click.argument("id")
def halt(id: str) -> None:
    """Halt a task: no worker is offered it until it is continued."""
    request("task.halt", {"id": id})


@tasks.command(name="continue")
@click.argument("id")
def continue_(id: str) -> None:
    """Continue a halted task: offer it to workers again."""
    request("task.continue", {"id": id})


@tasks.command("search")
@click.option("--state", type=click.Choice([state.value for state in TaskState]), help="Only those in this state.")
@_limit(100)
@_cursor
def search_tasks(state: str | None, limit: int, cursor: str | None) -> None:
    """List tasks, sorted by id."""
    request("task.search", given(state=state, limit=limit, cursor=cursor))


def _action(kind: str, data: Object) -> Object:
    return {"kind": kind, "head": {}, "data": data}


def _with_head(action: Any) -> Any:
    """Add the head that an action's envelope needs: nobody reads it, and nobody wants to type it."""
    return {"head": {}, **action} if isinstance(action, dict) else action


# ── schedules ──


@click.group(cls=ServerGroup)
def schedules() -> None:
    """Show, create, delete and search schedules."""


@schedules.command("get")
@click.argument("id")
def get_schedule(id: str) -> None:
    """Show a schedule."""
    _warn_if_nobody_runs(request("schedule.get", {"id": id}))


@schedules.command("create")
@click.argument("id")
@click.option("--cron", required=True, help="When, in UTC: minute hour day month weekday; seconds may come first.")
@click.option(
    "--promise-id", required=True, help="Template of the promises' ids: {{.id}} is the schedule's, {{.timestamp}} ms."
)
@click.option("--promise-timeout", type=DURATION, required=True, help="How long a promise may stay pending, like 1h.")
@click.option("--promise-param", type=OBJECT, help='The promises\' parameter, for example \'{"data": "hello"}\'.')
@click.option("--promise-tags", type=OBJECT, help="The promises' tags; resonate:target names who runs them.")
def create_schedule(
    id: str,
    cron: str,
    promise_id: str,
    promise_timeout: int,
    promise_param: Object | None,
    promise_tags: Object | None,
) -> None:
    """Create a schedule; an existing one is left as it is.

    Weekdays are 1 (Sunday) to 7 (Saturday), or names. The data of --promise-param is stored in base64.
    """
    template = {"id": id, "cron": cron, "promiseId": promise_id, "promiseTimeout": promise_timeout}
    members = template | given(promiseParam=encoded(promise_param), promiseTags=promise_tags)
    _warn_if_nobody_runs(request("schedule.create", members))


def _warn_if_nobody_runs(answer: Any) -> None:
    match answer:
        case {"schedule": {"promiseTags": dict(tags)}} if "resonate:target" not in tags:
            click.echo("Warning: without the tag resonate:target nobody runs its promises", err=True)


@schedules.command()
@click.argument("id")
def delete(id: str) -> None:
    """Delete a schedule, but not the promises that it has created."""
    request("schedule.delete", {"id": id})


@schedules.command("search")
@click.option("--tags", type=OBJECT, help="Only those whose promises have all of these tags.")
@_limit(10)
@_cursor
def search_schedules(tags: Object | None, limit: int, cursor: str | None) -> None:
    """List schedules, sorted by id."""
    request("schedule.search", given(tags=tags, limit=limit, cursor=cursor))


# ── calls ──


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
        page = msgspec.json.decode(where().connection().get(f"ui/api/chains?limit={limit}"), type=_ChainList)
    except CallFailed as error:
        fail(str(error))
    except NOT_JSON:
        fail("the server does not list chains")
    for chain in page.chains:
        click.echo(printable(chain.id).encode())  # UTF-8 whatever the locale: it is passed on as an argument
