"""``resonate schedules …``: promises that are created periodically."""

from typing import Any

import click

from resonate_server.client.commands import ServerGroup, given, request
from resonate_server.client.values import DURATION, OBJECT, encoded

Object = dict[str, Any]


@click.group(cls=ServerGroup)
def schedules() -> None:
    """Show, create, delete and search schedules."""


@schedules.command()
@click.argument("id")
def get(id: str) -> None:
    """Show a schedule."""
    _warn_if_nobody_runs(request("schedule.get", {"id": id}))


@schedules.command()
@click.argument("id")
@click.option("--cron", required=True, help="When, in UTC: minute hour day month weekday; seconds may come first.")
@click.option(
    "--promise-id", required=True, help="Template of the promises' ids: {{.id}} is the schedule's, {{.timestamp}} ms."
)
@click.option("--promise-timeout", type=DURATION, required=True, help="How long a promise may stay pending, like 1h.")
@click.option("--promise-param", type=OBJECT, help='The promises\' parameter, for example \'{"data": "hello"}\'.')
@click.option("--promise-tags", type=OBJECT, help="The promises' tags; resonate:target names who runs them.")
def create(
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
    if "resonate:target" not in answer["schedule"]["promiseTags"]:
        click.echo("Warning: without the tag resonate:target nobody runs its promises", err=True)


@schedules.command()
@click.argument("id")
def delete(id: str) -> None:
    """Delete a schedule, but not the promises that it has created."""
    request("schedule.delete", {"id": id})


@schedules.command()
@click.option("--tags", type=OBJECT, help="Only those whose promises have all of these tags.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=10, show_default=True, help="Page size.")
@click.option("--cursor", help="The cursor from the previous page.")
def search(tags: Object | None, limit: int, cursor: str | None) -> None:
    """List schedules, sorted by id."""
    request("schedule.search", given(tags=tags, limit=limit, cursor=cursor))
