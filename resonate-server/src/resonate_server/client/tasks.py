"""``resonate tasks …``: single task requests, which workers send by themselves, and people to repair or to learn."""

from typing import Any

import click

from resonate_server.client.commands import ServerGroup, given, request
from resonate_server.client.values import ARRAY, DURATION, OBJECT, now_ms
from resonate_server.protocol.records import TaskState

Object = dict[str, Any]


_pid = click.option("--pid", required=True, help="The process that claims it.")
_ttl = click.option("--ttl", type=DURATION, required=True, help="How long the lease lasts, like 15s.")
_version = click.option("--version", type=int, required=True, help="The version that the task must have.")


@click.group(cls=ServerGroup)
def tasks() -> None:
    """Show, claim, end, halt and search tasks."""


@tasks.command()
@click.argument("id")
def get(id: str) -> None:
    """Show a task."""
    request("task.get", {"id": id})


@tasks.command()
@click.argument("id")
@_pid
@_ttl
@click.option("--timeout", type=DURATION, required=True, help="How long its promise may stay pending, like 1h.")
@click.option("--param", type=OBJECT, help="The promise's parameter, sent as it is.")
@click.option("--tags", type=OBJECT, help="The promise's tags; resonate:target is required.")
def create(id: str, pid: str, ttl: int, timeout: int, param: Object | None, tags: Object | None) -> None:
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


@tasks.command()
@click.option("--state", type=click.Choice([state.value for state in TaskState]), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="Page size.")
@click.option("--cursor", help="The cursor from the previous page.")
def search(state: str | None, limit: int, cursor: str | None) -> None:
    """List tasks, sorted by id."""
    request("task.search", given(state=state, limit=limit, cursor=cursor))


def _action(kind: str, data: Object) -> Object:
    return {"kind": kind, "head": {}, "data": data}


def _with_head(action: Any) -> Any:
    """Add the head that an action's envelope needs: nobody reads it, and nobody wants to type it."""
    return {"head": {}, **action} if isinstance(action, dict) else action
