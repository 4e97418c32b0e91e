"""`bench plots`: pictures of saved results, and the page that shows them with the machine and the commands."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import msgspec
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import LogLocator, NullFormatter

from bench.report import Figure, Report, Table, save

STYLE: Any = {  # the library's own type lists every possible setting
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.alpha": 0.3,
}
REACHED, MISSED = "#2a7f62", "#c0392b"


def draw(reports: list[Report], folder: Path) -> None:
    """Write the pictures, the page README.md, and results.json, which has the reports without their samples.

    So when drawing from that file, the pictures of distributions stay as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, picture in _pictures(reports).items():
            picture.savefig(folder / f"{name}.png", bbox_inches="tight", dpi=150, metadata={"Software": None})
    parts = ["# Benchmarks", "Written by `bench plots` from `results.json`; no figure here was typed by hand."]
    parts += ["![Figures beside their targets](targets.png)"]
    for report in reports:
        parts.append(report.markdown(sorted(path.stem for path in folder.glob(f"{report.benchmark}-*.png"))))
    (folder / "README.md").write_text("\n\n".join(parts) + "\n")
    save([msgspec.structs.replace(report, samples=[]) for report in reports], folder / "results.json")


# ── pictures ──


def _pictures(reports: list[Report]) -> dict[str, Picture]:
    """Return pictures by the name of their files."""
    pictures = {f"{report.benchmark}-distribution": _distribution(report) for report in reports if report.samples}
    for report in reports:
        tables = {table.title: table for table in report.tables}
        if "latency and throughput" in tables:
            pictures[f"{report.benchmark}-throughput"] = _throughput(tables["latency and throughput"])
        if "cost per process" in tables:
            pictures[f"{report.benchmark}-cost"] = _cost(tables["cost per process"])
    pictures["targets"] = _targets([figure for report in reports for figure in report.figures])
    return pictures


def _picture(title: str, height: float = 3.4) -> tuple[Picture, Axes]:
    picture = Picture(figsize=(7.5, height))
    axes = picture.subplots()
    axes.set_title(title, loc="left")
    return picture, axes


def _logarithmic(axes: Axes, which: str) -> None:
    """Label the axis with 1, 2, 5, 10, ... as people write them."""
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _distribution(report: Report) -> Picture:
    picture, axes = _picture(f"{report.benchmark}: share of measurements that took at most this long", height=4)
    for samples in report.samples:
        positive = [max(value, 1e-6) for value in samples.values]  # a logarithmic axis has no zero
        axes.ecdf(positive, label=samples.name)
    _logarithmic(axes, "x")
    axes.set(xlabel=", ".join(sorted({samples.unit for samples in report.samples})), ylabel="share")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return picture


def _throughput(table: Table) -> Picture:
    picture, axes = _picture("chains per second, by requests in flight")
    for name in dict.fromkeys(row[1] for row in table.rows):
        axes.plot(*zip(*((row[0], row[4]) for row in table.rows if row[1] == name), strict=True), "o-", label=name)
    loads: list[Any] = list(dict.fromkeys(row[0] for row in table.rows))
    axes.set_xscale("log", base=2)
    axes.set_xticks(loads, [str(load) for load in loads])
    _logarithmic(axes, "y")
    axes.set(xlabel="requests in flight", ylabel="chains/s")
    axes.legend(frameon=False)
    return picture


def _cost(table: Table) -> Picture:
    """Draw a bar per contender, with a part per process in the same colour everywhere."""
    picture, axes = _picture("CPU per chain, one at a time, by process")
    ends: dict[Any, float] = {row[0]: 0.0 for row in reversed(table.rows)}
    for number, process in enumerate(dict.fromkeys(str(row[1]) for row in table.rows)):
        widths: dict[Any, Any] = {row[0]: row[2] or 0 for row in table.rows if row[1] == process}
        left = [ends[name] for name in widths]
        axes.barh([str(name) for name in widths], list(widths.values()), left=left, color=f"C{number}", label=process)
        ends.update({name: ends[name] + width for name, width in widths.items()})
    axes.legend()
    axes.set_xlabel("ms of CPU per chain")
    return picture


def _targets(figures: list[Figure]) -> Picture:
    """Draw every figure as a share of its bound: left of 1 is better, whichever way the bound goes."""
    compared = [figure for figure in figures if figure.target and figure.target.bound and figure.value]
    picture, axes = _picture("figures beside their targets: left of 1 is reached", height=0.8 + 0.24 * len(compared))
    for figure in reversed(compared):
        assert figure.target is not None
        assert figure.value is not None
        share = figure.value / figure.target.bound
        share = share if figure.target.sense == "at most" else 1 / share
        axes.plot([share], [figure.name], marker="o", color=REACHED if figure.passed else MISSED)
    axes.axvline(1, color="black", linewidth=1)
    _logarithmic(axes, "x")
    axes.set_xlabel("times the bound")
    return picture
