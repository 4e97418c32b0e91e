"""`bench all`: every benchmark, one after another, into one file."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click

from bench.load import WrongAnswers
from bench.options import json_option, publish, seed_option
from bench.report import Report

BENCHMARKS = ("chain", "server", "overload", "start", "recovery")
"""In the order of their length."""


@click.command("all")
@seed_option
@click.option("--skip", multiple=True, type=click.Choice(BENCHMARKS), help="Leave this one out; may be repeated.")
@json_option
def command(seed: int, skip: tuple[str, ...], json_file: Path | None) -> None:
    """Every benchmark as it is by default, one after another. `recovery` takes longer than all others together."""
    reports = []
    for name in BENCHMARKS:
        if name not in skip:
            click.echo(f"{name} ...", err=True)
            measure: Callable[..., Report] = import_module(f"bench.{name}").measure
            try:
                reports.append(measure(seed=seed))
            except WrongAnswers as error:
                raise click.ClickException(f"{name}: wrong answers, so no figures: {error}") from error
            publish(reports, json_file)
