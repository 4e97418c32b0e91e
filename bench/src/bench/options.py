"""What the commands of the benchmarks have in common: the seed, the rounds, and what becomes of a report."""

import os
import shlex
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.load import WrongAnswers
from bench.report import Report, save, show

DEFAULT_SEED = 20_260_401
PLAIN_WIDTH = 140
"""Columns where the output is not a terminal."""

seed_option = click.option(
    "--seed", type=int, default=DEFAULT_SEED, show_default=True, help="Of everything that is drawn by chance."
)
rounds_option = click.option(
    "--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Rounds that are run in turns."
)
json_option = click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Save the results here."
)


def typed_command() -> str:
    """What was typed, as it can be typed again; where the results were to be saved is nobody else's business."""
    words = sys.argv[1:]
    if "--json" in words:
        place = words.index("--json")
        del words[place : place + 2]
    return shlex.join(["bench", *words])


def reporting(measure: Callable[..., Report]) -> Callable[..., None]:
    """Turn a function that measures into one that shows what was measured, and saves it where ``--json`` says."""

    @json_option
    @wraps(measure)
    def run(json_file: Path | None, **options: Any) -> None:
        load_before = os.getloadavg()[1]
        try:
            report = measure(**options)
        except WrongAnswers as error:
            raise click.ClickException(f"wrong answers, so no figures: {error}") from error
        report.notes.append(f"Load average of the machine in the five minutes before: {load_before:.1f}.")
        publish([report], json_file)

    return run


def publish(reports: list[Report], json_file: Path | None) -> None:
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    for report in reports:
        show(report, console)
    if json_file is not None:
        save(reports, json_file)
        console.print(f"saved to {json_file}")
