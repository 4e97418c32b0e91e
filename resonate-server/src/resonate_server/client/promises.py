"""``resonate promises …``: single durable promises."""

from typing import Any

import click

from resonate_server.client.commands import ServerGroup, given, request
from resonate_server.client.values import DURATION, OBJECT, encoded, now_ms, readable
from resonate_server.protocol.records import PromiseState

Object = dict[str, Any]

_value = click.option("--value", type=OBJECT, help='The result, for example \'{"data": "ok"}\'.')


@click.group(cls=ServerGroup)
def promises() -> None:
    """Show, create, settle and search promises."""


@promises.command()
@click.argument("id")
@click.option("--json", "verbatim", is_flag=True, help="The raw answer of the server, with data in base64.")
def get(id: str, verbatim: bool) -> None:
    """Show a promise, with its parameter and its value decoded; for an error, its type and message."""
    request("promise.get", {"id": id}, None if verbatim else as_read)


def as_read(answer: Any) -> Any:
    """Return a promise with its parameter and its value decoded."""
    match answer:
        case {"promise": {"param": dict(param), "value": dict(value)} as promise}:
            return {"promise": promise | {"param": readable(param), "value": readable(value)}}
    return answer


@promises.command()
@click.argument("id")
@click.option("--timeout", type=DURATION, required=True, help="How long it may stay pending, like 1h.")
@click.option("--param", type=OBJECT, help='Its parameter, for example \'{"data": "hello"}\'.')
@click.option("--tags", type=OBJECT, help="Its tags: an object of strings.")
@click.option(
    "--internal", is_flag=True, help="Leave out the tag resonate:external=true, so that nothing can await it."
)
def create(id: str, timeout: int, param: Object | None, tags: Object | None, internal: bool) -> None:
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


@promises.command()
@click.option("--state", type=click.Choice([state.value for state in PromiseState]), help="Only those in this state.")
@click.option("--tags", type=OBJECT, help="Only those with all of these tags.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="Page size.")
@click.option("--cursor", help="The cursor from the previous page.")
def search(state: str | None, tags: Object | None, limit: int, cursor: str | None) -> None:
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
