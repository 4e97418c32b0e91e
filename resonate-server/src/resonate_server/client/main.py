"""The root command, which ties the others together."""

import click

from resonate_server import __version__
from resonate_server.client.backup import backup
from resonate_server.client.chains import chains
from resonate_server.client.commands import ServerGroup, fail
from resonate_server.client.invoke import invoke
from resonate_server.client.promises import promises
from resonate_server.client.replay import replay
from resonate_server.client.report import report
from resonate_server.client.schedules import schedules
from resonate_server.client.tasks import tasks
from resonate_server.client.tree import tree
from resonate_server.client.wait import wait
from resonate_server.official import REFUSED

SERVER = ("dev", "serve")


class Root(ServerGroup):
    """With the commands that run a server; all of that is loaded only if it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*SERVER, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in SERVER:
            from resonate_server.cli import main as server

            return server.commands[cmd_name]
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=Root,
    aliases={"promise": "promises", "task": "tasks", "schedule": "schedules"},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="resonate")
def main() -> None:
    """Run a Resonate server, look into one, and act on it.

    Answers are printed as indented JSON. A refusal is one line that begins with "Error:", on standard error, and
    exit status 1.

    Durations are written like 500ms, 30s, 5m, 1h30m or 7d.
    """


@main.command(hidden=True, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, expose_value=False)
def mcp() -> None:
    """It is in the official documentation."""
    fail(REFUSED["mcp"])


for command in (promises, tasks, schedules, invoke, chains, tree, wait, report, replay, backup):
    main.add_command(command)
