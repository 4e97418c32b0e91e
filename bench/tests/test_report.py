"""What a report says of its figures, on the terminal and in its file."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench.report import KEPT_SAMPLES, Figure, Report, Samples, Spread, Table, Target, load, save, show, text_of


def report() -> Report:
    return Report(
        "chain",
        "bench chain --rounds 2",
        seed=7,
        figures=[
            Figure("ratio", "x", 9.0, Spread(8.5, 9.5), Target(6)),
            Figure("throughput", "", 0.3, target=Target(0.2, "at least")),
            Figure("fsyncs", "", None, note="no strace"),
        ],
        tables=[Table("speed", ["who", "ms"], [["our stack", 12.345], ["plain chain", None]])],
        samples=[Samples("our stack", "s", [0.2, 0.1])],
        notes=["on a quiet machine"],
    )


@pytest.mark.parametrize(
    ("value", "target", "passed", "missed_by"),
    [
        (8.0, Target(8), True, None),
        (12.0, Target(8), False, 1.5),
        (0.2, Target(0.2, "at least"), True, None),
        (0.1, Target(0.2, "at least"), False, 2.0),
        (3.0, Target(0), False, None),
        (0.0, Target(1, "at least"), False, None),
    ],
)
def test_a_figure_tells_whether_and_by_how_much_it_missed_its_target(
    value: float, target: Target, passed: bool, missed_by: float | None
) -> None:
    figure = Figure("name", "", value, target=target)

    assert (figure.passed, figure.missed_by) == (passed, missed_by)


def test_what_was_not_measured_neither_passes_nor_fails() -> None:
    assert Figure("name", "", None, target=Target(1)).passed is None


def test_a_saved_report_is_read_back_as_it_was(tmp_path: Path) -> None:
    saved = report()

    save([saved], tmp_path / "new" / "results.json")

    assert load(tmp_path / "new" / "results.json") == [saved]


def test_the_terminal_shows_figures_targets_tables_and_what_to_run_again() -> None:
    terminal = StringIO()

    show(report(), Console(file=terminal, width=140))

    for part in ("bench chain --rounds 2", "seed 7", "MISSED by 1.50x", "reached", "n/a (no strace)", "12.3", "quiet"):
        assert part in terminal.getvalue()


def test_figures_and_tables_are_found_by_name() -> None:
    assert report().figure("throughput").value == 0.3
    assert report().table("speed").columns == ["who", "ms"]
    with pytest.raises(KeyError):
        report().figure("unknown")


def test_of_very_many_samples_evenly_chosen_ones_are_kept() -> None:
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
