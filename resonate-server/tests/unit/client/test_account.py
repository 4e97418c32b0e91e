"""The account of a chain that met a fault, and the verdict on it: foo calls bar, bar calls baz and sleeps or works.

Times are in s since the request was sent.
"""

import base64
import json
from typing import Any

import pytest
from msgspec.structs import replace
from unit.rows import promise

from resonate_server.client.account import (
    Case,
    Fault,
    FaultKind,
    Run,
    account,
    failures,
    parts_of,
    read_runs,
    verdict,
)
from resonate_server.client.calls import Call
from resonate_server.protocol.records import EMPTY, PromiseState, Value

SENT = 1_000_000
LATE = "lease lost, leaving the task to others (code=409): task is at version 2"


def at(seconds: float) -> int:
    return SENT + round(seconds * 1_000)


def value(data: Any) -> Value:
    return Value(data=base64.b64encode(json.dumps(data).encode()).decode())


def call(id: str, result: Any = None, settled: float = 10, func: str = "", **tags: str) -> Call:
    made = promise(
        id,
        PromiseState.RESOLVED,
        param=value({"func": func}) if func else EMPTY,
        value=value(result),
        tags={f"resonate:{name}": text for name, text in tags.items()},
        timeout_at=at(10),
        settled_at=at(settled),
    )
    return Call(replace(made, created_at=at(0.1)), task=None, depth=id.count("."))


FOO = call("a", 3, func="foo", target="poll://any@service-foo")
BAR = call("a.1", 2, func="bar", target="poll://any@service-bar")
BAZ = replace(call("a.1.1", 1, 0.3, func="baz", target="poll://any@service-baz"), follows=True)
SLEEP = call("a.1.2", timer="true", target="poll://any@service-bar")
WORK = replace(call("a.1.2", parent="a.1"), host=BAR)
WITHIN = replace(call("a.1.2.1", parent="a.1.2"), host=BAR)


def run(id: str, began: float, ended: float | None = None, attempt: int = 1, outcome: str = "result: 0") -> Run:
    function = {"a": "foo", "a.1": "bar", "a.1.1": "baz", "a.1.2": "work", "a.1.2.1": "weigh"}[id]
    finished = None if ended is None else at(ended)
    return Run(function, id, attempt, at(began), finished, "" if ended is None else outcome)


BAZ_RAN = run("a.1.1", 0.2, 0.3)
BAR_WAITED = run("a.1", 0.2, 0.3, outcome="suspended, waits for a.1.2")
OTHERS = [run("a", 0.1, 10), BAZ_RAN]


def fault(
    kind: FaultKind = FaultKind.KILL, name: str = "bar", group: str | None = None, began: float = 1, ended: float = 6
) -> Fault:
    where = group or (None if name == "resonate-server" else f"service-{name}")
    return Fault(kind=kind, name=name, group=where, began=at(began), ended=at(ended))


def sleeping(struck: Fault | None = None, runs: list[Run] | None = None, answered: float = 10.1, **other: Any) -> Case:
    """bar sleeps from 0.1 to 10 s."""
    own = [BAR_WAITED, run("a.1", 10, 10.05, attempt=2)]
    return _case([FOO, BAR, BAZ, SLEEP], struck, own + OTHERS if runs is None else runs, answered, **other)


def working(struck: Fault | None = None, runs: list[Run] | None = None, answered: float = 10.2, **other: Any) -> Case:
    """bar works from 0.3 to 10.3 s."""
    own = [run("a.1", 0.2, 10.3), run("a.1.2", 0.3, 10.3)]
    return _case([FOO, BAR, BAZ, WORK], struck, own + OTHERS if runs is None else runs, answered, **other)


def _case(calls: list[Call], struck: Fault | None, runs: list[Run], answered: float, **other: Any) -> Case:
    usual: dict[str, Any] = {"takes": 9_900, "message": 3, "expected": 3} | other
    runs = sorted(runs, key=lambda run: run.began)
    return Case(calls=calls, parts=parts_of(calls, runs), fault=struck, sent=SENT, answered=at(answered), **usual)


def broken_off(outcome: str = "", ended: float | None = None) -> list[Run]:
    """bar is struck at work, and another attempt repeats the work."""
    first = [run("a.1", 0.2, ended, outcome=outcome), run("a.1.2", 0.3, ended, outcome=outcome)]
    return [*OTHERS, *first, run("a.1", 6.5, 16.5, attempt=2), run("a.1.2", 6.5, 16.4, attempt=2)]


def text(case: Case) -> str:
    return "\n".join(account(case))


# ── the verdict ──


FROZEN = fault(FaultKind.FREEZE, ended=14)
FROZEN_AT_WORK = working(FROZEN, broken_off(LATE, 14.1), 16.5)
KILLED_AT_WORK = working(fault(), broken_off(), 16.5)
SERVER_KILLED = working(fault(name="resonate-server"), broken_off(), 16.5)

RIGHT = "The answer is 3, and baz ran exactly once"
AT_NO_COST = "The crash cost nothing: the answer is 3, and baz ran exactly once."
NOTHING_TWICE = "The answer is 3; baz ran exactly once, and so did bar's work."

GOOD: dict[str, tuple[Case, str]] = {
    "no fault": (sleeping(), f"{RIGHT}."),
    "killed while it sleeps": (sleeping(fault()), AT_NO_COST),
    "killed for longer than it sleeps": (
        sleeping(fault(ended=14), answered=14.5),
        "The crash cost 4.500 s: the answer is 3, and baz ran exactly once.",
    ),
    "an answer that is late by less than anybody notices": (sleeping(fault(ended=10), answered=10.499), AT_NO_COST),
    "an answer that is late by half a second": (
        sleeping(fault(ended=10), answered=10.5),
        "The crash cost 0.500 s: the answer is 3, and baz ran exactly once.",
    ),
    "killed at work": (KILLED_AT_WORK, f"{RIGHT}; only bar's unfinished step ran again."),
    "stopped at work for less than a lease": (working(fault(FaultKind.PAUSE)), NOTHING_TWICE),
    "frozen at work": (
        FROZEN_AT_WORK,
        "Counted once: the answer is 3, baz ran exactly once, and the late result was refused.",
    ),
    "the server killed while bar works, and its lease lost": (
        SERVER_KILLED,
        f"{RIGHT}; only bar's unfinished step ran again.",
    ),
    "foo killed while bar works": (working(fault(name="foo")), NOTHING_TWICE),
    "killed before the request": (sleeping(fault(name="baz", began=-1, ended=2)), f"{RIGHT}."),
    "a chain of one": (
        _case([FOO], None, [run("a", 0.1, 10)], 10),
        "The answer is 3, and foo ran exactly once.",
    ),
    "a service that has nothing to do with it": (sleeping(fault(name="qux")), AT_NO_COST),
}


@pytest.mark.parametrize(("case", "sentence"), GOOD.values(), ids=GOOD)
def test_the_proof_holds(case: Case, sentence: str) -> None:
    assert failures(case) == []
    assert verdict(case) == sentence


BAZ_TWICE = [*OTHERS, BAR_WAITED, run("a.1.1", 7, 7.1, attempt=2)]
WORK_TWICE = [*OTHERS, run("a.1", 0.2, 10.3), run("a.1.2", 0.3, 0.5), run("a.1.2", 2, 10.3)]
BAZ_RAN_TWICE = "baz should have run once, but ran 2 times"
WORK_RAN_TWICE = "bar's work should have run once, but ran 2 times"

BAD: dict[str, tuple[Case, list[str]]] = {
    "another answer": (sleeping(message=4), ["the answer should be 3, but is 4"]),
    "an answer of another kind": (sleeping(message="3"), ['the answer should be 3, but is "3"']),
    "no answer": (sleeping(message=None), ["the answer should be 3, but is missing"]),
    "baz twice, without a fault": (sleeping(runs=BAZ_TWICE), [BAZ_RAN_TWICE]),
    "baz twice, as bar was killed": (sleeping(fault(), BAZ_TWICE), [BAZ_RAN_TWICE]),
    "baz twice, as it was killed after it had returned": (sleeping(fault(name="baz"), BAZ_TWICE), [BAZ_RAN_TWICE]),
    "work twice, though it had ended": (working(fault(), WORK_TWICE), [WORK_RAN_TWICE]),
    "work twice, as foo was killed": (working(fault(name="foo"), broken_off()), [WORK_RAN_TWICE]),
    "work three times": (
        working(fault(), [*broken_off(), run("a.1.2", 7, 17, attempt=3)]),
        ["bar's work should have run 2 times, but ran 3 times"],
    ),
    "a late result that nobody refused": (
        working(FROZEN, broken_off("ValueError: lease lost", 14.1)),
        ["nothing shows that the late result was refused"],
    ),
    "no logs": (sleeping(runs=[]), [f"{name} has not run, by the logs" for name in ("foo", "bar", "baz")]),
    "no run of a step": (working(runs=[*OTHERS, run("a.1", 0.2, 10.3)]), ["bar's step has not run, by the logs"]),
}


@pytest.mark.parametrize(("case", "reasons"), BAD.values(), ids=BAD)
def test_something_went_wrong(case: Case, reasons: list[str]) -> None:
    assert failures(case) == reasons


def test_a_chain_that_has_failed_is_no_proof() -> None:
    case = sleeping(expected=None, message=None)
    failed = replace(FOO.promise, state=PromiseState.REJECTED, value=value({"message": "boom"}))
    assert failures(replace(case, calls=[replace(FOO, promise=failed), *case.calls[1:]])) == ["foo has failed: boom"]


# ── the account ──


TOLD: dict[str, tuple[Case, list[str]]] = {
    "what struck": (
        sleeping(fault()),
        ["bar was killed 1.0 s after the request was sent, and started again 5.0 s later."],
    ),
    "before the request": (
        sleeping(fault(FaultKind.PARTITION, "baz", began=-1, ended=2)),
        ["baz was cut off 1.0 s before the request was sent, and connected again 3.0 s later."],
    ),
    "that a late result was refused": (
        FROZEN_AT_WORK,
        ["The server refused the late result of the frozen bar, which says:", f" {LATE}"],
    ),
    "how often each ran": (
        KILLED_AT_WORK,
        ["Runs of each function, counted in the logs: foo 1, bar 2 (its work: 2), baz 1."],
    ),
    "steps within steps": (
        _case(
            [FOO, BAR, BAZ, WORK, WITHIN], None, [*OTHERS, *(run(id, 1, 2) for id in ("a.1", "a.1.2", "a.1.2.1"))], 3
        ),
        ["Runs of each function, counted in the logs: foo 1, bar 1 (its work: 1, its weigh: 1), baz 1."],
    ),
    "that an attempt had several runs": (
        sleeping(runs=[*OTHERS, BAR_WAITED, run("a.1", 0.3, 0.4), run("a.1", 10, 10.05, attempt=2)]),
        ["Runs of each function, counted in the logs: foo 1, bar 3 (in 2 attempts), baz 1."],
    ),
    "an answer that the fault delayed": (
        sleeping(fault(ended=14), answered=14.5),
        ["Without the fault it would have come after 10.000 s; it came after 14.500 s."],
    ),
    "an answer that is due at once": (
        sleeping(fault(name="baz", began=-1, ended=2), takes=0, answered=2.5),
        ["Without the fault it would have come at once; it came after 2.500 s."],
    ),
    "an answer that the fault at work delayed": (
        working(fault(FaultKind.PAUSE, ended=12), answered=13),
        ["Without the fault it would have come after 10.200 s; it came after 13.000 s."],
    ),
    "an answer on time": (sleeping(), ["The answer came 10.100 s after the request was sent."]),
}


@pytest.mark.parametrize(("case", "lines"), TOLD.values(), ids=TOLD)
def test_the_account_contains(case: Case, lines: list[str]) -> None:
    for line in lines:
        assert line in text(case)


def test_a_long_verdict_is_cut() -> None:
    assert len(verdict(sleeping(message="x" * 10_000, expected=None))) < 300


# ── runs, in the logs of workers ──


AT = "2026-11-25T20:49:43.000+00:00"
AT_MS = 1_795_639_783_000
BEGINS = f"{AT} running function bar  promise=a:1  attempt=1"
ENDS = "2026-11-25T20:49:45.500+00:00 ended function bar  promise=a:1  attempt=1  seconds=2.500  result: 2"


def read(*lines: str | bytes) -> list[Run]:
    encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
    return read_runs([line + b"\n" for line in encoded], ["a", "a:1", "größe", "a\u202eb"])


def test_a_run_has_two_lines() -> None:
    assert read(BEGINS, ENDS) == [
        Run(function="bar", id="a:1", attempt=1, began=AT_MS, ended=AT_MS + 2_500, outcome="result: 2")
    ]


def test_a_run_that_died_with_its_worker_has_no_end() -> None:
    [run] = read(BEGINS)
    assert run.ended is None
    assert run.was_under_way(AT_MS + 10_000)


def test_an_attempt_that_goes_on_at_once_counts_as_another_run() -> None:
    """What it awaits is settled already: it runs from the top again, in the same attempt."""
    suspends = f"{AT} ended function bar  promise=a:1  attempt=1  seconds=0.1  suspended, waits for b, which is there"
    first, second = read(BEGINS, suspends, BEGINS, ENDS)
    assert (first.outcome[:9], second.outcome) == ("suspended", "result: 2")


def test_runs_are_ordered_by_their_beginning_whichever_log_comes_first() -> None:
    earlier = BEGINS.replace("43.000", "41.000").replace("attempt=1", "attempt=0")
    assert [run.attempt for run in read(BEGINS, earlier)] == [0, 1]


RUNS: dict[str, str | bytes] = {
    "as logs.sh prints it": f"bar             | {BEGINS}",
    "as docker compose prints it": f"bar-1  | {BEGINS}",
    "CR LF": BEGINS + "\r",
    "with a level": BEGINS.replace("running", "WARNING: running"),
    "an id beyond ASCII": BEGINS.replace("a:1", "größe"),
    "an id with control characters, as workers write it": BEGINS.replace("a:1", "a\\u202eb"),
}
NO_RUNS: dict[str, str | bytes] = {
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


@pytest.mark.parametrize("what", [*RUNS, *NO_RUNS])
def test_runs_are_told_from_everything_else(what: str) -> None:
    assert len(read((RUNS | NO_RUNS)[what])) == (what in RUNS)


def test_garbage_between_the_lines_hides_none() -> None:
    assert len(read(b"\xff\xfe\x00", BEGINS, b"\x80" * 10, ENDS)) == 1
