"""The command line. Each benchmark is a module of its own with a `command`, loaded when it is asked for."""

from importlib import import_module
from typing import override

import click

COMMANDS = ("chain", "server", "overload", "recovery", "start", "record", "plots", "all")
MODULES = {"all": "everything"}
"""Of the commands that are not named like their module."""


class Benchmarks(click.Group):
    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"bench.{MODULES.get(cmd_name, cmd_name)}").command
        return command


@click.group(cls=Benchmarks, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure the stack side by side with what it is compared with, as processes on this machine.

    Figures are ratios wherever possible, from rounds that are run in turns; what is to be reached stands beside what
    was measured. Keep the machine quiet meanwhile.
    """
