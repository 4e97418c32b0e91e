"""How a report presents its figures: on the terminal, in its file, and on the page with its charts."""

import os
import resource
import sys
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from bench import chain
from bench.cli import QUIET_LOAD, _publish, await_quiet, main
from bench.report import KEPT_SAMPLES, Figure, Report, Samples, Spread, Table, Target, load, quantile, save, text_of


def report(benchmark: str = "chain", value: float = 9) -> Report:
    return Report(
        benchmark,
        seed=7,
        command="bench chain --rounds 2",
        figures=[
            Figure("ratio", "x", value, Spread(8.5, 9.5), Target(6)),
            Figure("throughput", "", 0.3, target=Target(0.2, "at least")),
            Figure("fsyncs", "", None, note="no strace"),
        ],
        tables=[
            Table(
                "latency and throughput",
                ["in flight", "contender", "median ms", "p99 ms", "chains/s"],
                [[1, "our stack", 12.345, 20.0, 100.0], [8, "our stack", 40.0, None, 200.0]],
            ),
            Table(
                "cost per process",
                ["contender", "process", "CPU ms/chain at 1", "peak MB"],
                [["our stack", "foo", 1.5, 80], ["our stack", "bar", 1.0, 60], ["plain chain", "foo", 0.5, 60]],
            ),
        ],
        samples=[Samples("our stack", "s", [0.2, 0.1, 0.0])],
        notes=["on a quiet machine"],
    )


PARTS = ("bench chain --rounds 2", "seed 7", "MISSED by 1.50x", "reached", "n/a (no strace)", "12.3", "quiet")


def test_a_quantile_is_a_value_that_was_measured() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([1.0, 100.0], 0.5) == 1.0
    assert quantile([*(1.0 for _ in range(99)), 500.0], 0.99) == 1.0


def test_a_figure_of_rounds_is_their_median_with_their_spread() -> None:
    figure = Figure.of_rounds("name", "ms", [5.0, 1.0, 2.0])

    assert (figure.value, figure.spread) == (2.0, Spread(1.0, 5.0))


@pytest.mark.parametrize(
    ("value", "target", "passed", "missed_by"),
    [
        (8.0, Target(8), True, None),
        (12.0, Target(8), False, 1.5),
        (0.2, Target(0.2, "at least"), True, None),
        (0.1, Target(0.2, "at least"), False, 2.0),
        (3.0, Target(0), False, None),
        (0.0, Target(1, "at least"), False, None),
        (None, Target(1), None, None),
    ],
)
def test_a_figure_says_whether_and_by_how_much_it_missed_its_target(
    value: float | None, target: Target, passed: bool | None, missed_by: float | None
) -> None:
    figure = Figure("name", "", value, target=target)

    assert (figure.passed, figure.missed_by) == (passed, missed_by)


def test_a_large_number_of_samples_is_thinned_evenly() -> None:
    samples = Samples("many", "s", [float(number) for number in reversed(range(100_000))])

    assert len(samples.values) == KEPT_SAMPLES
    assert (samples.values[0], samples.values[-1]) == (0.0, 99_999.0)
    assert samples.values == sorted(samples.values)


@pytest.mark.parametrize(
    ("cell", "text"),
    [(None, "-"), ("foo", "foo"), (0.0, "0"), (0.01234, "0.0123"), (12.34, "12.3"), (1234.5, "1,234"), (7, "7")],
)
def test_cells_are_short_and_readable(cell: str | float | None, text: str) -> None:
    assert text_of(cell) == text


def test_the_terminal_shows_figures_targets_tables_and_the_command_to_repeat() -> None:
    terminal = StringIO()

    with patch.object(sys, "stdout", terminal):
        _publish([report()], None)

    for part in PARTS:
        assert part in terminal.getvalue()


def draw(folder: Path, *files: Path) -> dict[str, bytes]:
    """Return the files that were written."""
    done = CliRunner().invoke(main, ["plots", *map(str, files), "--folder", str(folder)])
    assert done.exit_code == 0, done.output
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.long
def test_the_page_shows_the_last_report_of_each_benchmark_with_the_machine_and_every_picture(tmp_path: Path) -> None:
    folder, first, second = tmp_path / "docs", tmp_path / "first.json", tmp_path / "new/second.json"
    saved = report("chain")
    save([report("chain", 5), replace(report("server"), tables=[])], first)
    save([saved], second)
    assert load(second) == [saved]

    files = draw(folder, first, second)

    page = files["README.md"].decode()
    for part in (*PARTS, saved.machine.processor, saved.machine.python):
        assert part in page
    for name in ("chain-distribution", "chain-throughput", "chain-cost", "targets"):
        assert files[f"{name}.png"].startswith(b"\x89PNG")
        assert f"{name}.png" in page
    kept = load(folder / "results.json")
    assert [(each.benchmark, each.figures[0].value, each.samples) for each in kept] == [
        ("chain", 9, []),
        ("server", 9, []),
    ]
    assert draw(folder, folder / "results.json") == files, "without the samples, which are in their pictures"


def test_results_that_cannot_be_written_leave_the_earlier_ones(tmp_path: Path) -> None:
    file, saved = tmp_path / "results.json", report()
    save([saved], file)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save([saved, report("server")], file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load(file) == [saved]


# ── a quiet machine ──


@pytest.mark.parametrize(("loads", "seconds"), [([2.0, 0.9, QUIET_LOAD - 0.01], 2), ([2.0] * 9, 5)])
def test_a_measurement_waits_until_the_machine_is_quiet_or_patience_ends(loads: list[float], seconds: int) -> None:
    told, slept = iter(loads), list[float]()

    assert await_quiet(patience_s=5, load=lambda: next(told), sleep=slept.append) == loads[seconds]
    assert sum(slept) == seconds


@pytest.mark.parametrize(("load", "is_marked"), [(2.0, True), (QUIET_LOAD - 0.01, False)])
def test_figures_of_a_busy_machine_are_marked(monkeypatch: pytest.MonkeyPatch, load: float, is_marked: bool) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(chain, "measure", lambda **_: report())
    shown = CliRunner().invoke(main, ["chain"]).output
    assert ("NOT A QUIET MACHINE" in shown) == is_marked
