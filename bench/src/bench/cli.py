"""The command line: the benchmarks, their options, and what becomes of their reports."""

import os
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.load import WrongAnswers
from bench.report import DEFAULT_SEED, Report, load, save, show

PLAIN_WIDTH = 140
"""Columns if the output is not a terminal."""
QUIET_LOAD = 0.3
"""Figures are marked if the machine's load average in the minute before was higher."""
BENCHMARKS = ("chain", "budget", "server", "overload", "start", "recovery")
"""Shortest first."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Measure the stack side by side with alternatives, as processes on this machine.

    Figures are ratios wherever possible, from interleaved rounds, and are shown beside their targets. Keep the machine
    quiet meanwhile.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup's
            signal.signal(number, signal.default_int_handler)  # end what was started, as at Ctrl-C


def _number(name: str, default: int, help: str, least: int = 1) -> Callable[..., Any]:
    return click.option(name, type=click.IntRange(min=least), default=default, help=help)


_seed = click.option("--seed", type=int, default=DEFAULT_SEED, help="Seed of everything random.")
_json = click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Save results here.")
_patience = click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=0.0,
    help=f"Seconds to wait for a load average below {QUIET_LOAD}; then measure anyway, and say so.",
)
_seconds = click.option("--seconds", type=click.FloatRange(min=0.1), default=3.0, help="Length of each phase.")
_rounds = _number("--rounds", 5, "Rounds; contenders take turns.")
_server_url = click.option(
    "--server-url", default="", help="Also measure the Resonate server at this URL; its token is RESONATE_TOKEN."
)


def _benchmark(*options: Callable[..., Any]) -> Callable[[Callable[..., dict[str, Any]]], None]:
    """Make a command: the function turns options into arguments for `measure` of the module with its name."""

    def register(arguments_of: Callable[..., dict[str, Any]]) -> None:
        def run(json_file: Path | None, patience: float, **given: Any) -> None:
            _publish([_measure(arguments_of.__name__, patience, **arguments_of(**given))], json_file)

        command: Callable[..., Any] = run
        for option in reversed([*options, _seed, _patience, _json]):
            command = option(command)
        main.command(arguments_of.__name__, help=arguments_of.__doc__)(command)

    return register


@_benchmark(_rounds, _seconds, _server_url)
def chain(**given: Any) -> dict[str, Any]:
    """What POST /foo costs: latency, throughput, CPU, memory, requests and commits.

    Beside our stack run the plain chain (the same three services calling each other by HTTP, without durability), the
    SDK without any server, and our services on any other Resonate server that is given.
    """
    return given


@_benchmark(_seconds)
def budget(**given: Any) -> dict[str, Any]:
    """Where the milliseconds of a chain go: who runs, who waits for what, and which code runs.

    Needs Linux.
    """
    if sys.platform != "linux":
        raise click.UsageError("only Linux shows what each thread is doing")
    return given


@_benchmark(
    _rounds,
    _seconds,
    click.option("--quick", is_flag=True, help="Only the server with nothing stored."),
    _server_url,
)
def server(*, quick: bool, **given: Any) -> dict[str, Any]:
    """The server alone: the requests of workers, from many connections.

    With nothing stored, with 100,000 and 1,000,000 stored promises, and with 100,000 pending chains.
    """
    return {**given, "stored": (), "pending": 0} if quick else given


@_benchmark(_rounds, _seconds, _number("--servers", 3, "Number of servers that share a database."))
def stores(**given: Any) -> dict[str, Any]:
    """Chains on SQLite, on PostgreSQL, and with several servers on one database, side by side."""
    return given


@_benchmark(_seconds)
def overload(**given: Any) -> dict[str, Any]:
    """Ten times as many new chains as the server can bear: does it survive, and complete what it accepted?"""
    return given


@_benchmark(
    _number("--repeats", 10, "Starts of each process."),
    _number("--container-repeats", 3, "Rounds of docker compose up and down; 0 skips containers.", least=0),
)
def start(**given: Any) -> dict[str, Any]:
    """Seconds from exec to ready, of each program and of all as containers; sizes of the images.

    Containers get ports and a Compose project of their own, and leave nothing behind.
    """
    return given


@_benchmark(
    _number("--trials", 100, "Trials of each scenario."),
    _number("--parallel", 4, "Number of stacks that run in parallel."),
    click.option("--only", default="", metavar="WORDS", help="Only scenarios whose name contains this."),
    click.option(
        "--url",
        default="",
        help="Measure the Resonate server at this URL, which nobody else may use, instead of our own; its token is "
        "RESONATE_TOKEN. Skips the scenarios that kill the server.",
    ),
)
def recovery(*, only: str, **given: Any) -> dict[str, Any]:
    """Seconds from a fault to the answer: programs killed by SIGKILL, frozen by SIGSTOP, cut off, started again.

    The report describes the method. A wrong or missing answer, or a function that ran more often than the faults
    explain, ends the benchmark with an error.
    """
    scenarios = import_module("bench.recovery").SCENARIOS
    chosen = [scenario for scenario in scenarios if only in scenario.name]
    if not chosen:
        raise click.UsageError(f"no scenario is named {only!r}: {'; '.join(scenario.name for scenario in scenarios)}")
    return {**given, "scenarios": chosen}


@main.command("all")
@_seed
@_patience
@_json
def everything(json_file: Path | None, patience: float, **options: Any) -> None:
    """Every benchmark with its defaults, one after another. `recovery` takes longer than all others together."""
    reports: list[Report] = []
    for name in BENCHMARKS:
        click.echo(f"{name} ...", err=True)
        reports.append(_measure(name, patience, **options))
        _publish(reports, json_file)


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
    """Run a benchmark. Each is a module of its own, imported on demand."""
    load_before = await_quiet(patience_s)
    try:
        report: Report = import_module(f"bench.{name}").measure(**options)
    except WrongAnswers as error:
        raise click.ClickException(f"{name}: wrong answers, so no figures: {error}") from error
    report.notes.append(load_note(load_before))
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


def load_note(load: float) -> str:
    """Return the note about the machine's load before a measurement."""
    told = f"Load average of the machine in the minute before: {load:.2f}."
    return told if load < QUIET_LOAD else f"NOT A QUIET MACHINE. {told} Trust the ratios more than the figures."


def _publish(reports: list[Report], json_file: Path | None) -> None:
    """Show the last report, which is new, and save all."""
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    show(reports[-1], console)
    if json_file is not None:
        save(reports, json_file)
        console.print(f"saved to {json_file}")
