"""The root command, which ties the others together."""

import click

from resonate_server import __version__
from resonate_server.client.backup import backup
from resonate_server.client.chains import chains
from resonate_server.client.commands import Family, with_server
from resonate_server.client.invoke import invoke
from resonate_server.client.promises import promises
from resonate_server.client.replay import replay
from resonate_server.client.report import report
from resonate_server.client.schedules import schedules
from resonate_server.client.tasks import tasks
from resonate_server.client.tree import tree
from resonate_server.client.wait import wait


@click.group(
    cls=Family,
    aliases={"promise": "promises", "task": "tasks", "schedule": "schedules"},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="resonate")
@with_server
def main() -> None:
    """Look into a Resonate server, and act on it.

    Answers are printed as indented JSON. A refusal is one line that begins with "Error:", on standard error, and
    exit status 1.

    Durations are written like 500ms, 30s, 5m, 1h30m or 7d.
    """


for command in (promises, tasks, schedules, invoke, chains, tree, wait, report, replay, backup):
    main.add_command(command)
