"""The command line tool ``resonate``: inspect a server, and act on it, from a shell. Works with any Resonate server.

It is an ordinary client: of this package it uses only the wire types. Commands, flags and output follow the official
tool.
"""

import errno
import os
import sys
from importlib import import_module
from typing import Any

import click

from resonate_server import __version__
from resonate_server.client.commands import ServerGroup, fail
from resonate_server.official import REFUSED

SERVER = ("dev", "serve")
LOADED = {
    **dict.fromkeys(("chains", "invoke", "promises", "schedules", "tasks"), "single_requests"),
    **{name: name for name in ("backup", "replay", "report", "tree", "wait")},
}
"""The module of each command."""

ALIASES = {"promise": "promises", "task": "tasks", "schedule": "schedules"}
"""Further names, which the help does not list."""


class Root(ServerGroup):
    """Loads commands on demand: scripts run one after the other, and loading all takes longer than running most."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*SERVER, *sorted({*LOADED, *super().list_commands(ctx)})]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in SERVER:
            from resonate_server.cli import main as server

            return server.commands[cmd_name]
        name = ALIASES.get(cmd_name, cmd_name)
        if name in LOADED and name not in self.commands:
            self.add_command(getattr(import_module(f"{__name__}.{LOADED[name]}"), name))
        return super().get_command(ctx, name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left must not fail again
            fail("the disk is full: the answer could not be written")


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="resonate")
def main() -> None:
    """Run a Resonate server, inspect one, and act on it.

    Answers are printed as indented JSON. A refusal is one line on standard error that begins with "Error:", with exit
    status 1.

    Durations are written like 500ms, 30s, 5m, 1h30m or 7d.
    """


@main.command(hidden=True, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, expose_value=False)
def mcp() -> None:
    """Refuse a command that the official documentation describes."""
    fail(REFUSED["mcp"])
