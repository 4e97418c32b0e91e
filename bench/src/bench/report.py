"""What every benchmark returns, and how it is shown: figures with their targets, tables, raw samples.

A report is data: the JSON file, the plots, and the text on the terminal and on the page are made from it.
"""

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import psutil
from msgspec import Struct, field

type Cell = str | float | int | None

DEFAULT_SEED = 20_260_401
MEGABYTE = 1_000_000
PACKAGES = ("resonate-sdk", "aiohttp", "uvloop", "msgspec", "flask", "gunicorn")
KEPT_SAMPLES = 400


# ── statistics ──


def median(values: Sequence[float]) -> float:
    return float(np.median(values))


def quantile(values: Sequence[float], share: float) -> float:
    """The least measured value that at least ``share`` (0 to 1) of all values do not exceed; no interpolation."""
    return float(np.quantile(values, share, method="inverted_cdf"))


# ── the data ──


class Target(Struct, frozen=True):
    """The bound that a figure must keep, in the figure's unit."""

    bound: float
    sense: Literal["at most", "at least"] = "at most"


class Spread(Struct, frozen=True):
    """The least and the greatest measured value."""

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
    """By what factor the value is too great or too small, if that can be told; follows from the fields above."""

    def __post_init__(self) -> None:
        if self.target is None or self.value is None:
            return
        bound, at_most = self.target.bound, self.target.sense == "at most"
        greater, lesser = (self.value, bound) if at_most else (bound, self.value)
        self.passed = greater <= lesser
        self.missed_by = None if self.passed or not lesser else greater / lesser

    @classmethod
    def of_rounds(cls, name: str, unit: str, values: Sequence[float], target: Target | None = None) -> "Figure":
        """Make a figure of one value per round: their median and their spread."""
        return cls(name, unit, median(values), Spread(min(values), max(values)), target)

    def cells(self) -> list[Cell]:
        """Return the cells for `FIGURE_COLUMNS`."""
        missed = "MISSED" if self.missed_by is None else f"MISSED by {self.missed_by:.2f}x"
        return [
            self.name,
            f"n/a ({self.note})" if self.value is None else f"{text_of(self.value)} {self.unit}".strip(),
            f"{text_of(self.spread.low)} - {text_of(self.spread.high)}" if self.spread else "",
            f"{self.target.sense} {text_of(self.target.bound)}" if self.target else "",
            {None: "", True: "reached", False: missed}[self.passed],
        ]


FIGURE_COLUMNS = ["what", "value", "spread", "target", "result"]


class Table(Struct):
    """Rows of the same length as ``columns``; ``None`` is shown as a dash."""

    title: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)

    def markdown(self) -> str:
        rows = [self.columns, ["---"] * len(self.columns), *([text_of(cell) for cell in row] for row in self.rows)]
        heading = f"{self.title}:\n\n" if self.title else ""
        return heading + "\n".join(f"| {' | '.join(row)} |" for row in rows)


class Samples(Struct):
    """Single measurements, ascending, for plots of their distribution; of very many, an even selection."""

    name: str
    unit: str
    values: list[float]

    def __post_init__(self) -> None:
        chosen = np.linspace(0, len(self.values) - 1, min(len(self.values), KEPT_SAMPLES)).round().astype(int)
        self.values = np.sort(self.values)[chosen].tolist()


class Machine(Struct, frozen=True):
    """Where figures come from: without it they mean nothing. ``cores`` are those that this process may use."""

    processor: str
    cores: int
    memory_bytes: int
    system: str
    python: str
    packages: dict[str, str]


def this_machine() -> Machine:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return Machine(
        processor=models[0] if models else platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} ({platform.machine()})",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages={name: version(name) for name in PACKAGES},
    )


class Report(Struct):
    """``seed`` and ``command`` are what it takes to measure again."""

    benchmark: str
    seed: int
    command: str = field(default_factory=lambda: shlex.join(["bench", *sys.argv[1:]]))
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)
    method: str = ""
    """How it is measured, if that is not obvious: Markdown."""
    notes: list[str] = field(default_factory=list)
    machine: Machine = field(default_factory=this_machine)
    measured_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def markdown(self, pictures: Sequence[str] = ()) -> str:
        """Return all of it but the samples, for people."""
        machine = self.machine
        packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
        figures = Table("", FIGURE_COLUMNS, [figure.cells() for figure in self.figures])
        parts = [
            f"## {self.benchmark}",
            f"`{self.command}`, seed {self.seed}, {self.measured_at}. {machine.processor}, {machine.cores} cores,"
            f" {machine.memory_bytes / MEGABYTE:,.0f} MB; {machine.system}; {machine.python}; {packages}.",
            self.method,
            *(table.markdown() for table in [figures, *self.tables] if table.rows),
            *(f"![{name}]({name}.png)" for name in pictures),
            *self.notes,
        ]
        return "\n\n".join(filter(None, parts))


# ── the file ──


def save(reports: list[Report], path: Path) -> None:
    """Replace the file as a whole: on a full disk, or after Ctrl-C, the earlier one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coming = path.with_name(path.name + ".part")
    coming.write_bytes(msgspec.json.format(msgspec.json.encode(reports), indent=2) + b"\n")
    coming.replace(path)


def load(path: Path) -> list[Report]:
    """Raises ``msgspec.ValidationError`` for a file that no benchmark wrote."""
    return msgspec.json.decode(path.read_bytes(), type=list[Report])


def text_of(cell: Cell) -> str:
    """Format a cell for people: three significant digits, thousands separated."""
    match cell:
        case None:
            return "-"
        case float() if cell != 0 and abs(cell) < 100:
            return f"{cell:.3g}"
        case int() | float():
            return f"{cell:,.0f}"
    return cell
