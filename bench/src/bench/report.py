"""What every benchmark hands back, and how it is shown: figures with their targets, tables, raw samples.

A report is data: the terminal, the JSON file and the plots are made from it. No benchmark prints its own results.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, field
from rich.console import Console
from rich.table import Table as RichTable

from bench.machine import Machine, describe

type Cell = str | float | int | None


class Target(Struct, frozen=True):
    """The bound that a figure is to keep, in the figure's unit."""

    bound: float
    sense: Literal["at most", "at least"] = "at most"


class Spread(Struct, frozen=True):
    """The least and the greatest value that were measured."""

    low: float
    high: float


class Figure(Struct):
    """One number. ``value`` is ``None`` where it could not be measured: ``note`` says why."""

    name: str
    unit: str
    value: float | None
    spread: Spread | None = None
    target: Target | None = None
    note: str = ""
    passed: bool | None = None
    """Whether the target was reached; follows from the fields above."""
    missed_by: float | None = None
    """How many times too great, or too small, the value is, if that can be told; follows from the fields above."""

    def __post_init__(self) -> None:
        if self.target is None or self.value is None:
            return
        bound, at_most = self.target.bound, self.target.sense == "at most"
        self.passed = self.value <= bound if at_most else self.value >= bound
        greater, lesser = (self.value, bound) if at_most else (bound, self.value)
        self.missed_by = None if self.passed or not lesser else greater / lesser


class Table(Struct):
    """Rows of the same length as ``columns``; ``None`` is shown as a dash."""

    title: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)


KEPT_SAMPLES = 400


class Samples(Struct):
    """Measurements one by one, ascending, for plots of their distribution; of very many, evenly chosen ones."""

    name: str
    unit: str
    values: list[float]

    def __post_init__(self) -> None:
        ordered, last = sorted(self.values), len(self.values) - 1
        if len(ordered) > KEPT_SAMPLES:
            ordered = [ordered[round(number * last / (KEPT_SAMPLES - 1))] for number in range(KEPT_SAMPLES)]
        self.values = ordered


class Report(Struct):
    """``seed`` and ``command`` are what is needed to measure again."""

    benchmark: str
    command: str
    seed: int
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machine: Machine = field(default_factory=describe)
    measured_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def figure(self, name: str) -> Figure:
        """The figure of that name; raises ``KeyError`` if there is none."""
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)

    def table(self, title: str) -> Table:
        """The table of that title; raises ``KeyError`` if there is none."""
        for table in self.tables:
            if table.title == title:
                return table
        raise KeyError(title)


# ── the file ──


def save(reports: list[Report], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(reports), indent=2) + b"\n")


def load(path: Path) -> list[Report]:
    """Raises ``msgspec.ValidationError`` for a file that no benchmark wrote."""
    return msgspec.json.decode(path.read_bytes(), type=list[Report])


# ── the terminal ──


def show(report: Report, console: Console) -> None:
    console.print()
    console.rule(f"[bold]{report.benchmark}[/bold]  {report.command}  (seed {report.seed})")
    for table in report.tables:
        console.print(_rendered_table(table))
    if report.figures:
        console.print(_rendered_figures(report.figures))
    for note in report.notes:
        console.print(f"  {note}", highlight=False)


def _rendered_table(table: Table) -> RichTable:
    rendered = RichTable(title=table.title, title_justify="left")
    for number, column in enumerate(table.columns):
        rendered.add_column(column, justify="left" if number == 0 else "right")
    for row in table.rows:
        rendered.add_row(*map(text_of, row))
    return rendered


def _rendered_figures(figures: list[Figure]) -> RichTable:
    rendered = RichTable(title="figures", title_justify="left")
    rendered.add_column("what")
    for column in ("value", "spread", "target", "result"):
        rendered.add_column(column, justify="right")
    for figure in figures:
        rendered.add_row(figure.name, value_of(figure), spread_of(figure), target_of(figure), result_of(figure))
    return rendered


def text_of(cell: Cell) -> str:
    """A cell for people: three significant digits, thousands apart."""
    match cell:
        case None:
            return "-"
        case float() if cell != 0 and abs(cell) < 100:
            return f"{cell:.3g}"
        case int() | float():
            return f"{cell:,.0f}"
    return cell


def value_of(figure: Figure) -> str:
    if figure.value is None:
        return f"n/a ({figure.note})" if figure.note else "n/a"
    return f"{text_of(figure.value)} {figure.unit}".strip()


def spread_of(figure: Figure) -> str:
    return f"{text_of(figure.spread.low)} - {text_of(figure.spread.high)}" if figure.spread else ""


def target_of(figure: Figure) -> str:
    return f"{figure.target.sense} {text_of(figure.target.bound)}" if figure.target else ""


def result_of(figure: Figure) -> str:
    match figure.passed:
        case None:
            return ""
        case True:
            return "reached"
    return "MISSED" if figure.missed_by is None else f"MISSED by {figure.missed_by:.2f}x"
