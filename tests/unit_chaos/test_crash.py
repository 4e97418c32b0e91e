"""What crash.sh does in a crash of bar at work, whatever the shell and the server report."""

import base64
import itertools
import re

import msgspec
import pytest

import crash
from crash import Answer, Case, Crash, Ended, Scripts, now_ms
from resonate_server.client.account import FaultKind
from resonate_server.client.calls import Call, CallTask
from resonate_server.protocol.records import EMPTY, Promise, PromiseState, TaskState, Value

CASE = Case(
    script="crash.sh",
    kind="processes",
    service="bar",
    fault=FaultKind.FREEZE,
    when="running",
    length_option="--for",
    id="x",
    foo="127.0.0.1:1",
    server="http://127.0.0.1:1",
    lease=10,
    down=0,
)


class Shell(Scripts):
    """``logs``: the log of each instance that is struck."""

    def __init__(self, logs: dict[str, str] | None = None) -> None:
        super().__init__()
        self._logs = logs or {}
        self.done: list[tuple[str, ...]] = []

    def _read(self) -> None:
        """Read nothing, because nobody interrupts."""

    def ask(self, *words: str) -> str:
        assert words in (("processes", "of", "bar"), ("processes", "of", "resonate-server"))
        return "\n".join(self._logs)

    def do(self, *words: str) -> bool:
        self.done.append(words)
        return words[0] != "has_printed" or bool(re.search(words[2], self._logs[words[1]], re.MULTILINE))

    @property
    def told(self) -> str:
        return "\n".join(words[1] for words in self.done if words[0] == "print")


def call(attempt: int, state: PromiseState = PromiseState.PENDING, task: TaskState = TaskState.ACQUIRED) -> Call:
    param = Value(data=base64.b64encode(msgspec.json.encode({"func": "bar"})).decode())
    promise = Promise(id="x", state=state, param=param, value=EMPTY, tags={}, timeout_at=0, created_at=0)
    return Call(promise, CallTask(task, attempt))


def bar_at_work(shell: Shell, monkeypatch: pytest.MonkeyPatch, *then: Call) -> Crash:
    """A play at attempt 2; ``then`` is what the server reports after that."""
    play = Crash(CASE, shell)
    monkeypatch.setattr(play, "_attempt", 2)
    monkeypatch.setattr(play, "_look", lambda: list(then))
    return play


def test_of_two_bars_that_ran_the_function_the_working_one_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one had an earlier attempt, which ended when it suspended."""
    attempts = {"bar-1": 1, "bar-3": 22, "bar-2": 2}
    shell = Shell({bar: f"12:00 running function bar  promise=x:1  attempt={n}\n" for bar, n in attempts.items()})
    bar_at_work(shell, monkeypatch).strike()

    assert [words for words in shell.done if words[0] == "at_once"] == [("at_once", "processes", "freeze", "bar-2")]


@pytest.mark.parametrize(
    ("then", "told"),
    [
        (call(3), "the other bar does the work"),
        (call(3, PromiseState.RESOLVED, TaskState.FULFILLED), "the other bar has done the work"),
    ],
    ids=["it is at work", "it is done"],
)
def test_the_other_bar_may_be_done_before_the_first_check(
    monkeypatch: pytest.MonkeyPatch, then: Call, told: str
) -> None:
    shell = Shell()
    bar_at_work(shell, monkeypatch, then).let_it_last()

    assert told in shell.done[-1][1]


def test_if_no_other_bar_takes_over_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash, "TAKEOVER_S", 0)
    with pytest.raises(Ended, match="no other bar took over within 0 s") as ended:
        bar_at_work(Shell(), monkeypatch, call(2)).let_it_last()
    assert ended.value.status == 1


def test_events_are_reported_in_order_each_with_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = Shell()
    play = bar_at_work(shell, monkeypatch, call(3))
    monkeypatch.setattr(play, "_began", now_ms() - 5_000)
    monkeypatch.setattr(play._caller, "answer", Answer(200, "3"))
    monkeypatch.setattr(play._caller, "answered", play._began + 1_500)
    play.let_it_last()
    play._await_answer()

    assert re.fullmatch(
        r" +1\.5 s  the caller has its answer: 3\n +\d+\.\d s  it was given up .*", shell.told, re.DOTALL
    )
    assert shell.told.count("has its answer") == 1


def test_a_fault_is_printed_with_the_same_time_as_in_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same however long freezing takes, and reading and printing what is reported meanwhile."""
    clock = itertools.count(1_000_000, 1_000)
    monkeypatch.setattr(crash, "now_ms", lambda: next(clock))
    log = "12:00 running function bar  promise=x:1  attempt=2\n12:09 promise=x:1  lease lost, leaving the task\n"
    shell = Shell({"bar": log})
    play = bar_at_work(shell, monkeypatch)
    play.strike()
    play._end_fault()

    for at, what in ((play._struck_at, "frozen"), (play._over_at, "thawed")):
        assert f"{(at - play._began) / 1_000:.1f} s  bar is {what}" in shell.told


def test_a_service_of_which_nothing_runs_any_more_is_not_said_to_be_killed() -> None:
    with pytest.raises(Ended, match="bar is not running any more"):
        Crash(msgspec.structs.replace(CASE, fault=FaultKind.KILL), Shell()).strike()


@pytest.mark.parametrize(
    ("servers", "told"),
    [
        (1, ["foo, bar and baz keep trying to reach it", "leases start over"]),
        (3, ["the other servers continue", "leases stayed as they were"]),
    ],
    ids=["the only one", "one of three"],
)
def test_the_effect_of_a_dead_server_depends_on_whether_others_are_running(servers: int, told: list[str]) -> None:
    shell = Shell({f"resonate-server-{number}": "" for number in range(servers)})
    play = Crash(msgspec.structs.replace(CASE, service="resonate-server", fault=FaultKind.KILL), shell)
    play.strike()
    play._show_request()
    play._end_fault()

    for each in told:
        assert each in shell.told
