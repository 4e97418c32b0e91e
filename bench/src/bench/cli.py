"""The command line: the benchmarks, their options, and what becomes of their reports."""

import os
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, override

import click
from rich.console import Console
from rich.markdown import Markdown

from bench.load import WrongAnswers
from bench.report import DEFAULT_SEED, Report, load, save

PLAIN_WIDTH = 140
"""Columns if the output is not a terminal."""
QUIET_LOAD = 0.3
"""Figures are marked if the machine's load average in the minute before was higher."""
BENCHMARKS = ("chain", "budget", "server", "overload", "start", "recovery")
"""Those of `bench all`, shortest first; `stores` needs PostgreSQL."""

_number = click.IntRange(min=1)
OPTIONS: dict[str, dict[str, Any]] = {
    "rounds": {"type": _number, "help": "Rounds; contenders take turns."},
    "seconds": {"type": click.FloatRange(min=0.1), "help": "Length of each phase."},
    "quick": {"is_flag": True, "help": "Only the server with nothing stored."},
    "servers": {"type": _number, "help": "Number of servers that share a database."},
    "repeats": {"type": _number, "help": "Starts of each process."},
    "container_repeats": {"type": click.IntRange(min=0), "help": "Rounds of docker compose; 0 skips containers."},
    "trials": {"type": _number, "help": "Trials of each scenario."},
    "parallel": {"type": _number, "help": "Number of stacks that run in parallel."},
    "only": {"metavar": "WORDS", "help": "Only scenarios whose name contains this."},
    "url": {"help": "Measure the Resonate server at this URL, which nobody else may use; its token is RESONATE_TOKEN."},
    "server_url": {"help": "Also measure the Resonate server at this URL; its token is RESONATE_TOKEN."},
    "seed": {"type": int, "help": "Seed of everything random."},
}
"""What arguments of `measure` mean on the command line."""
COMMON = [
    click.Option(
        ["--patience"],
        type=click.FloatRange(min=0),
        default=0.0,
        help=f"Seconds to wait for a load average below {QUIET_LOAD}; then measure anyway, and say so.",
    ),
    click.Option(["--json", "json_file"], type=click.Path(path_type=Path, dir_okay=False), help="Save results here."),
]


class InOrder(click.Group):
    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Measure the stack side by side with alternatives, as processes on this machine.

    Figures are ratios wherever possible, from interleaved rounds, and are shown beside their targets. Keep the machine
    quiet meanwhile.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup's
            signal.signal(number, signal.default_int_handler)  # end what was started, as at Ctrl-C


def add(name: str) -> None:
    """Add a benchmark: a module whose docstring is its help, and whose function `measure` has its options."""
    module = import_module(f"bench.{name}")
    options = [
        click.Option([f"--{argument.replace('_', '-')}"], default=each.default, **OPTIONS[argument])
        for argument, each in signature(module.measure).parameters.items()
        if argument in OPTIONS
    ]

    def run(json_file: Path | None, patience: float, **arguments: Any) -> None:
        _publish([_measure(name, patience, **arguments)], json_file)

    main.add_command(click.Command(name, callback=run, params=[*options, *COMMON], help=module.__doc__))


for each in (*BENCHMARKS, "stores"):
    add(each)


def everything(json_file: Path | None, patience: float, seed: int) -> None:
    """Every benchmark with its defaults, one after another. `recovery` takes longer than all others together."""
    reports: list[Report] = []
    for name in BENCHMARKS:
        click.echo(f"{name} ...", err=True)
        reports.append(_measure(name, patience, seed=seed))
        _publish(reports, json_file)


_seed = click.Option(["--seed"], default=DEFAULT_SEED, **OPTIONS["seed"])
main.add_command(click.Command("all", callback=everything, params=[_seed, *COMMON], help=everything.__doc__))


@main.command("plots")
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--folder", type=click.Path(path_type=Path), default=Path("docs/benchmarks"), help="Output folder.")
def plots(results: tuple[Path, ...], folder: Path) -> None:
    """Draw RESULTS, files that were saved with --json, and write the page about them.

    Of several reports of one benchmark, the last one counts.
    """
    reports = list({report.benchmark: report for path in results for report in load(path)}.values())
    import_module("bench.plots").draw(reports, folder)
    click.echo(f"{folder}: README.md, results.json and pictures")


def _measure(name: str, patience_s: float, **options: Any) -> Report:
    load_before = await_quiet(patience_s)
    try:
        report: Report = import_module(f"bench.{name}").measure(**options)
    except WrongAnswers as error:
        raise click.ClickException(f"{name}: wrong answers, so no figures: {error}") from error
    told = f"Load average of the machine in the minute before: {load_before:.2f}."
    busy = f"NOT A QUIET MACHINE. {told} Trust the ratios more than the figures."
    report.notes.append(told if load_before < QUIET_LOAD else busy)
    return report


def await_quiet(
    patience_s: float,
    load: Callable[[], float] = lambda: os.getloadavg()[0],
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Return the load average of the last minute, once it is below `QUIET_LOAD` or `patience_s` have passed."""
    waited_s = 0
    while (now := load()) >= QUIET_LOAD and waited_s < patience_s:
        sleep(1)
        waited_s += 1
    return now


def _publish(reports: list[Report], json_file: Path | None) -> None:
    """Show the last report, which is new, and save all."""
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    console.print(Markdown(reports[-1].markdown()))
    if json_file is not None:
        save(reports, json_file)
        console.print(f"saved to {json_file}")
