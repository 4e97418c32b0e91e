"""Which lines in the logs of workers count as runs, and which are ignored."""

import pytest

from resonate_server.client.runs import Run, read_runs

AT = "2026-11-25T20:49:43.000+00:00"
AT_MS = 1_795_639_783_000
BEGINS = f"{AT} running function bar  promise=a:1  attempt=1"
ENDS = "2026-11-25T20:49:45.500+00:00 ended function bar  promise=a:1  attempt=1  seconds=2.500  result: 2"


def runs(*lines: str | bytes) -> list[Run]:
    encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
    return read_runs([line + b"\n" for line in encoded], ["a", "a:1", "größe", "a\u202eb"])


def test_a_run_has_two_lines() -> None:
    assert runs(BEGINS, ENDS) == [
        Run(function="bar", id="a:1", attempt=1, began=AT_MS, ended=AT_MS + 2_500, outcome="result: 2")
    ]


def test_a_run_that_died_with_its_worker_has_no_end() -> None:
    [run] = runs(BEGINS)
    assert run.ended is None
    assert run.was_under_way(AT_MS + 10_000)


def test_an_attempt_that_goes_on_at_once_counts_as_another_run() -> None:
    """What it awaits is settled already: it runs from the top again, in the same attempt."""
    suspends = f"{AT} ended function bar  promise=a:1  attempt=1  seconds=0.1  suspended, waits for b, which is there"
    first, second = runs(BEGINS, suspends, BEGINS, ENDS)
    assert (first.outcome[:9], second.outcome) == ("suspended", "result: 2")


def test_runs_are_ordered_by_their_beginning_whichever_log_comes_first() -> None:
    earlier = BEGINS.replace("43.000", "41.000").replace("attempt=1", "attempt=0")
    assert [run.attempt for run in runs(BEGINS, earlier)] == [0, 1]


RUNS = {
    "as logs.sh prints it": f"bar             | {BEGINS}",
    "as docker compose prints it": f"bar-1  | {BEGINS}",
    "CR LF": BEGINS + "\r",
    "with a level": BEGINS.replace("running", "WARNING: running"),
    "an id beyond ASCII": BEGINS.replace("a:1", "größe"),
}


@pytest.mark.parametrize("line", RUNS.values(), ids=RUNS)
def test_these_are_runs(line: str) -> None:
    assert len(runs(line)) == 1


NO_RUNS = {
    "nothing": "",
    "a traceback": "Traceback (most recent call last):",
    "quoted in a traceback": f"  {BEGINS}",
    "of another chain": BEGINS.replace("a:1", "b"),
    "of an id that only begins alike": BEGINS.replace("a:1", "a:10"),
    "no time": BEGINS.replace(AT, "yesterday"),
    "no such time": BEGINS.replace(AT, "9999-99-99T00:00:00+00:00"),
    "no attempt": BEGINS.replace("attempt=1", "attempt=one"),
    "an attempt that no server counts to": BEGINS.replace("attempt=1", f"attempt={'9' * 30}"),
    "an attempt in other digits": BEGINS.replace("attempt=1", "attempt=\u0661"),
    "an end without a beginning": ENDS,
    "UTF-16": BEGINS.encode("utf-16"),
    "an id that is not UTF-8": BEGINS.replace("a:1", "größe").encode("latin-1"),
    "all bytes": bytes(range(256)),
    "zeros": b"\x00" * 100_000,
}


@pytest.mark.parametrize("line", NO_RUNS.values(), ids=NO_RUNS)
def test_these_are_no_runs(line: str | bytes) -> None:
    assert runs(line) == []


def test_an_id_with_control_characters_is_found_as_workers_write_it() -> None:
    assert [run.id for run in runs(BEGINS.replace("a:1", "a\\u202eb"))] == ["a\u202eb"]


def test_garbage_between_the_lines_hides_none() -> None:
    assert len(runs(b"\xff\xfe\x00", BEGINS, b"\x80" * 10, ENDS)) == 1


@pytest.mark.parametrize(
    ("outcome", "refused", "returned"),
    [
        ("result: 2", False, True),
        ("lease lost, leaving the task to others (code=409): task a:1 is at version 2, not 1", True, False),
        ("ValueError: lease lost", False, False),
        ("suspended, waits for a:1.1", False, False),
        ("", False, False),
    ],
)
def test_the_outcome_of_a_run(outcome: str, refused: bool, returned: bool) -> None:
    run = Run(function="bar", id="a", attempt=1, began=0, outcome=outcome)
    assert (run.was_refused, run.has_returned) == (refused, returned)
