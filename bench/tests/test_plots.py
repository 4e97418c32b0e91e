"""Pictures and the page are made from saved results alone."""

from pathlib import Path

from click.testing import CliRunner

from bench.cli import main
from bench.report import Figure, Report, Samples, Table, Target, load, save


def results(benchmark: str = "chain", value: float = 5) -> Report:
    return Report(
        benchmark,
        f"bench {benchmark} --rounds 3",
        seed=11,
        figures=[Figure("chain median / plain chain median", "x", value, target=Target(8))],
        tables=[
            Table(
                "latency and throughput",
                ["in flight", "contender", "median ms", "p99 ms", "chains/s"],
                [[1, "our stack", 10.0, 20.0, 100.0], [8, "our stack", 40.0, 80.0, 200.0]],
            ),
            Table(
                "cost per process",
                ["contender", "process", "CPU ms/chain at 1", "peak MB"],
                [["our stack", "foo", 1.5, 80], ["our stack", "bar", 1.0, 60]],
            ),
        ],
        samples=[Samples("our stack", "s", [0.01, 0.02, 0.0])],
    )


def draw(folder: Path, *files: Path) -> None:
    done = CliRunner().invoke(main, ["plots", *map(str, files), "--folder", str(folder)])
    assert done.exit_code == 0, done.output


def test_every_picture_is_drawn_and_shown_on_the_page(tmp_path: Path) -> None:
    save([results()], tmp_path / "results.json")

    draw(tmp_path / "docs", tmp_path / "results.json")

    page = (tmp_path / "docs" / "README.md").read_text()
    for name in ("chain-distribution", "chain-throughput", "chain-cost", "targets"):
        assert (tmp_path / "docs" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"{name}.png" in page


def test_the_page_tells_machine_command_seed_and_figures(tmp_path: Path) -> None:
    report = results()
    save([report], tmp_path / "results.json")

    draw(tmp_path / "docs", tmp_path / "results.json")

    page = (tmp_path / "docs" / "README.md").read_text()
    for part in (report.command, "seed 11", report.machine.processor, report.machine.python, "| 5 x |", "reached"):
        assert part in page


def test_of_two_reports_of_one_benchmark_the_last_one_counts(tmp_path: Path) -> None:
    save([results("chain", 5), results("server", 6)], tmp_path / "first.json")
    save([results("chain", 7)], tmp_path / "second.json")

    draw(tmp_path / "docs", tmp_path / "first.json", tmp_path / "second.json")

    kept = load(tmp_path / "docs" / "results.json")
    assert [(report.benchmark, report.figures[0].value) for report in kept] == [("chain", 7), ("server", 6)]


def test_what_is_kept_has_no_samples_and_makes_the_same_page_again(tmp_path: Path) -> None:
    save([results()], tmp_path / "results.json")
    folder = tmp_path / "docs"

    draw(folder, tmp_path / "results.json")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    draw(folder, folder / "results.json")

    assert [report.samples for report in load(folder / "results.json")] == [[]]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
