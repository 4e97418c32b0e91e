"""MAX_TASKS: how many tasks a worker runs at a time, and how it reports that all places are taken."""

from pathlib import Path

from .programs import Calls, Stack


def test_a_full_worker_says_so_and_further_calls_wait_for_a_place(served: Stack, calls: Calls, tmp_path: Path) -> None:
    worker = served.connect_worker("functions", MAX_TASKS="3")
    end = tmp_path / "end"

    ids = [calls.start(f"call-{number}", "work", str(end)) for number in range(4)]
    worker.wait_for("all 3 places are taken")
    assert worker.count("running function work") == 3

    end.touch()
    assert [calls.outcome(id) for id in ids] == ["done"] * 4
    worker.wait_for("not all 3 places are taken any more")
    assert worker.count("all 3 places are taken;") == 1


def test_with_more_places_a_short_call_overtakes_a_hundred_long_ones(
    served: Stack, calls: Calls, tmp_path: Path
) -> None:
    worker = served.connect_worker("functions", MAX_TASKS="128")
    end, now = tmp_path / "end", tmp_path / "now"
    now.touch()

    long = [calls.start(f"long-{number}", "work", str(end)) for number in range(100)]
    assert calls.outcome(calls.start("short", "work", str(now))) == "done"

    assert {calls.promise(id)["state"] for id in long} == {"pending"}
    assert "places are taken" not in worker.output()
    end.touch()
    assert {calls.outcome(id) for id in long} == {"done"}
