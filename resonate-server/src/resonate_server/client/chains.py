"""``resonate chains``: list the newest chains."""

import click
import msgspec
from msgspec import Struct

from resonate_server.client.commands import fail, where
from resonate_server.client.server_connection import CallFailed
from resonate_server.client.values import printable


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
    except msgspec.DecodeError:
        fail("the server does not list chains")
    for chain in page.chains:
        click.echo(printable(chain.id).encode())  # UTF-8 whatever the locale: it is passed on as an argument
