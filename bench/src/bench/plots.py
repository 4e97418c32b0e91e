"""`bench plots`: pictures of saved results, and the page that shows them.

Everything on the page, the machine and the commands too, comes from the results.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
import msgspec
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.report import Figure, Report, Samples, Table, load, result_of, save, spread_of, target_of, text_of, value_of

FOLDER = Path("docs/benchmarks")
STYLE: Any = {  # the library's own type names every setting there is
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.alpha": 0.3,
}
REACHED, MISSED = "#2a7f62", "#c0392b"
MEGABYTE = 1_000_000


@click.command("plots")
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--folder", type=click.Path(path_type=Path), default=FOLDER, show_default=True, help="Where they go.")
def command(results: tuple[Path, ...], folder: Path) -> None:
    """Draw what RESULTS hold, files that were saved with --json, and write the page about them.

    If several reports are of one benchmark, the last one counts.
    """
    reports = list({report.benchmark: report for path in results for report in load(path)}.values())
    draw(reports, folder)
    click.echo(f"{folder}: README.md and {len(pictures_of(reports))} pictures")


def draw(reports: list[Report], folder: Path) -> None:
    """The pictures, the page README.md, and results.json: the reports without their samples.

    Drawn again from that file, the pictures of distributions stay as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, picture in pictures_of(reports).items():
            picture.savefig(folder / f"{name}.png", bbox_inches="tight", dpi=150, metadata={"Software": None})
    (folder / "README.md").write_text(page(reports, folder))
    save([msgspec.structs.replace(report, samples=[]) for report in reports], folder / "results.json")


def pictures_of(reports: list[Report]) -> dict[str, Picture]:
    """By the name of their files."""
    pictures = {}
    for report in reports:
        if report.samples:
            pictures[f"{report.benchmark}-distribution"] = _distribution(report)
        for table in report.tables:
            if table.title == "latency and throughput":
                pictures[f"{report.benchmark}-throughput"] = _throughput(table)
            if table.title == "cost per process":
                pictures[f"{report.benchmark}-cost"] = _cost(table)
    figures = [figure for report in reports for figure in report.figures if _can_be_compared(figure)]
    if figures:
        pictures["targets"] = _targets(figures)
    return pictures


# ── pictures ──


def _picture(title: str, height: float = 3.4) -> tuple[Picture, Axes]:
    picture = Picture(figsize=(7.5, height))
    axes = picture.subplots()
    axes.set_title(title, loc="left")
    return picture, axes


def _logarithmic(axis: Axis, set_scale: Callable[[str], None]) -> None:
    """1, 2, 5, 10, ... as people write them."""
    set_scale("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _distribution(report: Report) -> Picture:
    """What share of the measurements took at most the given time."""
    picture, axes = _picture(f"{report.benchmark}: share of measurements that took at most this long", height=4)
    for samples in report.samples:
        axes.plot(_positive(samples), [100 * share for share in _shares(samples)], label=samples.name)
    _logarithmic(axes.xaxis, axes.set_xscale)
    axes.set_xlabel(", ".join(sorted({samples.unit for samples in report.samples})))
    axes.set_ylabel("%")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return picture


def _positive(samples: Samples) -> list[float]:
    """A logarithmic axis has no place for nothing."""
    return [max(value, 1e-6) for value in samples.values]


def _shares(samples: Samples) -> list[float]:
    return [(number + 1) / len(samples.values) for number in range(len(samples.values))]


def _throughput(table: Table) -> Picture:
    picture, axes = _picture("chains per second, by requests in flight")
    for name in dict.fromkeys(row[1] for row in table.rows):
        points = [(row[0], row[4]) for row in table.rows if row[1] == name]
        axes.plot(*zip(*points, strict=True), marker="o", label=str(name))
    axes.set_xscale("log", base=2)
    _logarithmic(axes.yaxis, axes.set_yscale)
    loads = sorted({row[0] for row in table.rows if isinstance(row[0], int)})
    axes.set_xticks(loads, [str(load) for load in loads])
    axes.set_xlabel("requests in flight")
    axes.set_ylabel("chains/s")
    axes.legend(frameon=False)
    return picture


def _cost(table: Table) -> Picture:
    picture, axes = _picture("CPU per chain, one at a time, by process")
    colours = itertools.cycle(mpl.colormaps["tab10"].colors)  # type: ignore[attr-defined]
    colour_of = {process: next(colours) for process in dict.fromkeys(row[1] for row in table.rows)}
    for name in reversed(list(dict.fromkeys(row[0] for row in table.rows))):
        left = 0.0
        for _, process, cpu, *_ in (row for row in table.rows if row[0] == name):
            width = float(cpu or 0)
            axes.barh(str(name), width, left=left, color=colour_of[process], label=str(process))
            left += width
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(*zip(*dict(zip(labels, zip(handles, labels, strict=True), strict=True)).values(), strict=True))
    axes.set_xlabel("ms of CPU per chain")
    return picture


def _can_be_compared(figure: Figure) -> bool:
    return bool(figure.target and figure.target.bound and figure.value)


def _targets(figures: list[Figure]) -> Picture:
    """Every figure as a share of its bound: left of 1 is better, whichever way the bound goes."""
    picture, axes = _picture("figures beside their targets: left of 1 is reached", height=0.8 + 0.24 * len(figures))
    for figure in reversed(figures):
        assert figure.target is not None
        assert figure.value is not None
        share = figure.value / figure.target.bound
        share = share if figure.target.sense == "at most" else 1 / share
        axes.plot([share], [figure.name], marker="o", color=REACHED if figure.passed else MISSED)
    axes.axvline(1, color="black", linewidth=1)
    _logarithmic(axes.xaxis, axes.set_xscale)
    axes.set_xlabel("times the bound")
    return picture


# ── the page ──


def page(reports: list[Report], folder: Path) -> str:
    """In Markdown, with the pictures that are in the folder."""
    parts = ["# Benchmarks", "Written by `bench plots` from `results.json`; no figure here was typed by hand."]
    parts += ["![Figures beside their targets](targets.png)"]
    for report in reports:
        parts += _section(report, sorted(folder.glob(f"{report.benchmark}-*.png")))
    return "\n\n".join(parts) + "\n"


def _section(report: Report, pictures: list[Path]) -> list[str]:
    machine = report.machine
    memory = f"{machine.memory_bytes / MEGABYTE:,.0f} MB"
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return [
        f"## {report.benchmark}",
        f"`{report.command}`, seed {report.seed}, {report.measured_at}. {machine.processor}, {machine.cores} cores,"
        f" {memory}; {machine.system}; {machine.python}; {packages}.",
        *([_figures_in_markdown(report.figures)] if report.figures else []),
        *(f"{table.title}:\n\n{_in_markdown(table)}" for table in report.tables),
        *(f"![{picture.stem}]({picture.name})" for picture in pictures),
        *report.notes,
    ]


def _figures_in_markdown(figures: list[Figure]) -> str:
    table = Table("", ["what", "value", "spread", "target", "result"])
    for each in figures:
        table.rows.append([each.name, value_of(each), spread_of(each), target_of(each), result_of(each)])
    return _in_markdown(table)


def _in_markdown(table: Table) -> str:
    rows = [table.columns, ["---"] * len(table.columns), *([text_of(cell) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
