"""What crash.sh does at some moment of a crash of bar at work, whatever the shell and the server then say."""

import base64
import re

import msgspec
import pytest

from chaos import crash
from chaos.crash import Case, Crash, Ended, Scripts
from resonate_server.client.calls import Call
from resonate_server.protocol.records import EMPTY, Promise, PromiseState, TaskRecord, TaskState, Value

CASE = Case(
    script="crash.sh",
    kind="processes",
    service="bar",
    fault="freeze",
    when="running",
    length_option="--for",
    id="x",
    foo="127.0.0.1:1",
    server="http://127.0.0.1:1",
    lease=10,
    down=0,
)


class Shell(Scripts):
    """``logs``: of each instance of bar."""

    def __init__(self, logs: dict[str, str] | None = None) -> None:
        super().__init__()
        self._logs = logs or {}
        self.done: list[tuple[str, ...]] = []

    def _read(self) -> None:
        """Nobody cuts anything short."""

    def ask(self, *words: str) -> str:
        assert words == ("processes", "of", "bar")
        return "\n".join(self._logs)

    def do(self, *words: str) -> bool:
        self.done.append(words)
        return words[0] != "has_printed" or bool(re.search(words[2], self._logs[words[1]], re.MULTILINE))


def call(state: PromiseState, task: TaskState, attempt: int) -> Call:
    param = Value(data=base64.b64encode(msgspec.json.encode({"func": "bar"})).decode())
    promise = Promise(id="x", state=state, param=param, value=EMPTY, tags={}, timeout_at=0, created_at=0)
    return Call(promise, TaskRecord(id="x", state=task, version=attempt, resumes=0), ())


def bar_at_work(shell: Shell, monkeypatch: pytest.MonkeyPatch, *then: Call) -> Crash:
    """In attempt 2; what the server says of it after that."""
    play = Crash(CASE, shell)
    monkeypatch.setattr(play, "_attempt", 2)
    monkeypatch.setattr(play, "_look", lambda: list(then))
    return play


def test_of_two_bars_that_ran_the_function_the_one_that_is_at_work_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one had an earlier attempt, which ended when it suspended."""
    attempts = {"bar-1": 1, "bar-3": 22, "bar-2": 2}
    shell = Shell({bar: f"12:00 running function bar  promise=x:1  attempt={n}\n" for bar, n in attempts.items()})
    bar_at_work(shell, monkeypatch).strike()

    assert [words for words in shell.done if words[0] == "processes"] == [("processes", "freeze", "bar-2")]


@pytest.mark.parametrize(
    ("then", "told"),
    [
        (call(PromiseState.PENDING, TaskState.ACQUIRED, 3), "the other bar does the work"),
        (call(PromiseState.RESOLVED, TaskState.FULFILLED, 3), "the other bar has done the work"),
    ],
    ids=["it is at work", "it is done"],
)
def test_the_other_bar_may_be_done_before_one_has_looked(
    monkeypatch: pytest.MonkeyPatch, then: Call, told: str
) -> None:
    shell = Shell()
    bar_at_work(shell, monkeypatch, then).let_it_last()

    assert told in shell.done[-1][1]


def test_if_no_other_bar_takes_over_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash, "TAKEOVER_S", 0)
    same = call(PromiseState.PENDING, TaskState.ACQUIRED, 2)

    with pytest.raises(Ended, match="no other bar took over within 0 s") as ended:
        bar_at_work(Shell(), monkeypatch, same).let_it_last()
    assert ended.value.status == 1
