"""How often each function of a chain ran, when the answer came, and a verdict. Judges the given facts; no requests.

Runs are counted in the workers' logs: the server should not be its own witness. What a fault did to the calls is the
server's to tell (``resonate tree``). Times are in ms since the epoch.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from resonate_server.client.calls import Call
from resonate_server.client.values import printable
from resonate_server.protocol.records import PromiseState, Role
from resonate_server.protocol.words import duration, listed, times

NOTICEABLE_MS = 500
"""A shorter delay counts as none."""

VALUE_SHOWN = 200
"""Characters of an answer or a result that are shown."""

# ── runs ──

LEASE_LOST = "lease lost"
"""Prefix of an outcome that the server refused, in a worker's log."""

_LINE = re.compile(
    r"(?:\S+ +\| )?(?P<time>\S+) (?:[A-Z]+: )?(?P<what>running|ended) function (?P<function>.+?)"
    r"  promise=(?P<id>.+?)  attempt=(?P<attempt>[0-9]{1,9})(?:  seconds=[0-9.]+  (?P<outcome>.*))?",
    re.ASCII,
)
"""How workers log a run, where a line may be prefixed with the name of its writer (``ship | ...``):

    2026-11-25T20:49:43.130+00:00 running function ship  promise=ID:1  attempt=1
    2026-11-25T20:49:49.432+00:00 ended function ship  promise=ID:1  attempt=1  seconds=6.302  result: 2
"""


class Run(Struct):
    """One run. ``began`` and ``ended`` are in ms since the epoch; a run that died with its worker has no end."""

    function: str
    id: str
    attempt: int
    began: int
    ended: int | None = None
    outcome: str = ""

    def was_under_way(self, at: int) -> bool:
        return self.began <= at and (self.ended is None or self.ended > at)

    @property
    def was_refused(self) -> bool:
        return self.outcome.startswith(LEASE_LOST)


def read_runs(lines: Iterable[bytes], ids: Iterable[str]) -> list[Run]:
    """Return the runs of the promises ``ids``, in the order in which they began. Other lines are ignored."""
    known = {printable(id): id for id in ids}
    runs: list[Run] = []
    under_way: dict[tuple[str, int], Run] = {}
    for line in lines:
        found = _LINE.fullmatch(line.decode(errors="replace").rstrip("\r\n"))
        at = _time(found["time"]) if found and found["id"] in known else None
        if found is None or at is None:
            continue
        place = known[found["id"]], int(found["attempt"])
        if found["what"] == "running":
            runs.append(Run(function=found["function"], id=place[0], attempt=place[1], began=at))
            under_way[place] = runs[-1]
        elif (run := under_way.pop(place, None)) is not None:
            run.ended, run.outcome = at, found["outcome"] or ""
    return sorted(runs, key=lambda run: run.began)


def _time(text: str) -> int | None:
    """Return ms since the epoch."""
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1_000)
    except (ValueError, OverflowError):
        return None


# ── the facts ──


class FaultKind(StrEnum):
    """What can be done to a service."""

    KILL = "kill"
    PAUSE = "pause"
    FREEZE = "freeze"
    PARTITION = "partition"

    @property
    def struck(self) -> str:
        return {"kill": "killed", "partition": "cut off"}.get(self, "frozen")

    @property
    def over(self) -> str:
        return {"kill": "started again", "partition": "connected again"}.get(self, "thawed")


class Fault(Struct, frozen=True):
    """A fault that struck at ``began`` and was over at ``ended``. ``group``: that of the workers; ``None`` if it struck
    the server."""

    kind: FaultKind
    name: str
    group: str | None
    began: int
    ended: int

    def explains(self, part: "Part") -> bool:
        """Return whether the fault broke off a run of ``part``, which then has to run again."""
        return self.group in (None, part.group) and any(run.was_under_way(self.began) for run in part.runs)


class Part(Struct, frozen=True):
    """A call that runs something. ``caller``: the part whose step it is; ``is_leaf``: it calls nothing itself."""

    call: Call
    name: str
    caller: "Part | None"
    is_leaf: bool
    runs: list[Run]

    @property
    def group(self) -> str:
        return (self.call.host or self.call).group

    @property
    def whose(self) -> str:
        return self.name if self.caller is None else f"{self.caller.name}'s {self.name}"


class Case(Struct, frozen=True):
    """All known facts. ``message``: the answer that the caller got; ``expected``: what it should be, if given.

    ``takes``: ms of sleep or work in the chain, without which it would be answered at once. ``ahead``: how far (ms) the
    server's clock, which dates the calls, is ahead of the one that dates everything else.
    """

    calls: list[Call]
    parts: list[Part]
    fault: Fault | None
    sent: int
    answered: int
    takes: int
    message: Any
    expected: Any
    ahead: int = 0

    @property
    def leaves(self) -> list[Part]:
        return [part for part in self.parts if part.is_leaf]

    @property
    def repeated(self) -> list[Part]:
        return [part for part in self.leaves if len(part.runs) > 1]

    @property
    def was_idle(self) -> bool:
        """The fault struck before there was a request."""
        return self.fault is not None and self.fault.began < self.sent


def parts_of(calls: list[Call], runs: list[Run]) -> list[Part]:
    """Return the parts among the calls that ``CallTree.read`` returns: all but sleeps."""
    runs_by_id: dict[str, list[Run]] = {}
    for run in runs:
        runs_by_id.setdefault(run.id, []).append(run)
    parts: dict[str, Part] = {}
    for call, following in zip(calls, [*calls[1:], None], strict=True):
        if call.role is not Role.TIMER:
            own = runs_by_id.get(call.promise.id, [])
            parts[call.promise.id] = Part(
                call=call,
                name=own[0].function if own else call.name,
                caller=None if call.host is None else parts[call.host.promise.id],
                is_leaf=following is None or following.depth <= call.depth,
                runs=own,
            )
    return [*parts.values()]


# ── the verdict ──


def failures(case: Case) -> list[str]:
    """Return what is wrong, in words."""
    return [*_wrong_answer(case), *_wrong_runs(case), *_missing_refusal(case)]


def _wrong_answer(case: Case) -> Iterator[str]:
    root = case.calls[0]
    if root.promise.state is not PromiseState.RESOLVED:
        yield f"{root.name} has failed" + (f": {root.error}" if root.error else "")
    if case.expected is not None and case.message != case.expected:
        got = "is missing" if case.message is None else f"is {_json(case.message)}"
        yield f"the answer should be {_json(case.expected)}, but {got}"


def _wrong_runs(case: Case) -> Iterator[str]:
    """A function that calls nothing may run once, and once more if the fault broke it off.

    Others restart from the top whenever they continue.
    """
    for part in case.parts:
        most = 2 if case.fault is not None and case.fault.explains(part) else 1
        if not part.runs:
            yield f"{part.whose} has not run, by the logs"
        elif part.is_leaf and len(part.runs) > most:
            yield f"{part.whose} should have run {times(most)}, but ran {times(len(part.runs))}"


def _missing_refusal(case: Case) -> Iterator[str]:
    """A worker that lost its lease while it was frozen sends its result late."""
    if _is_about_a_late_result(case) and _late_result(case) is None:
        yield "nothing shows that the late result was refused"


def _is_about_a_late_result(case: Case) -> bool:
    fault = case.fault
    if fault is None or fault.kind is not FaultKind.FREEZE or fault.group is None:
        return False
    return any(fault.explains(part) for part in case.leaves)


def _late_result(case: Case) -> Run | None:
    """Return the run whose result the server refused, according to its worker."""
    struck = (part for part in case.parts if case.fault is not None and part.group == case.fault.group)
    return next((run for part in struck for run in part.runs if run.was_refused), None)


def verdict(case: Case) -> str:
    """Return the verdict in one sentence, assuming that nothing is wrong."""
    answer = "the answer is " + _json(case.message)
    once = [part for part in case.leaves if len(part.runs) == 1]
    whole = listed([part.name for part in once if part.caller is None])
    steps = listed([part.whose for part in once if part.caller is not None])
    ran = f"{whole} ran exactly once" if whole else "nothing that was done was done again"
    if _is_about_a_late_result(case):
        return f"Counted once: {answer}, {ran}, and the late result was refused."
    if case.repeated:
        again = listed([f"{(part.caller or part).name}'s" for part in case.repeated])
        return f"T{answer[1:]}, and {ran}; only {again} unfinished step ran again."
    if steps:
        return f"T{answer[1:]}; {ran}, and so did {steps}."
    if case.fault is None or case.was_idle:
        return f"T{answer[1:]}, and {ran}."
    cost = cost_ms(case)
    return f"The crash cost {_seconds(cost) if cost else 'nothing'}: {answer}, and {ran}."


def account(case: Case) -> Iterator[str]:
    """Yield what happened, line by line; a line that begins with a blank explains the one before."""
    if case.fault is not None:
        yield _what_struck(case, case.fault)
        if (late := _late_result(case)) is not None:
            yield f"The server refused the late result of the {case.fault.kind.struck} {late.function}, which says:"
            yield f" {late.outcome}"
    yield f"Runs of each function, counted in the logs: {', '.join(_counts(case))}."
    yield " (a function restarts from its first line when it resumes;"
    yield " finished calls are answered from the record)"
    yield _when_the_answer_came(case)


def _what_struck(case: Case, fault: Fault) -> str:
    apart = duration(abs(fault.began - case.sent))
    when = f"{apart} {'before' if case.was_idle else 'after'} the request was sent"
    lasted = duration(fault.ended - fault.began)
    return f"{fault.name} was {fault.kind.struck} {when}, and {fault.kind.over} {lasted} later."


def _counts(case: Case) -> Iterator[str]:
    """Yield how often each function and its steps ran, and in how many attempts if there were fewer."""
    for part in case.parts:
        if part.caller is None:
            notes = [f"its {each.name}: {len(each.runs)}" for each in case.parts if each.caller is part]
            attempts = max((run.attempt for run in part.runs), default=0)
            if attempts < len(part.runs):
                notes.insert(0, f"in {attempts} attempt{'s' if attempts > 1 else ''}")
            yield f"{part.name} {len(part.runs)}" + (f" ({', '.join(notes)})" if notes else "")


def _when_the_answer_came(case: Case) -> str:
    took = _seconds(case.answered - case.sent)
    if case.fault is None or not cost_ms(case):
        return f"The answer came {took} after the request was sent."
    due = _due(case)
    without = "at once" if due <= case.sent else f"after {_seconds(due - case.sent)}"
    return f"Without the fault it would have come {without}; it came after {took}."


def cost_ms(case: Case) -> int:
    """Return how much later the answer came because of the fault, in ms; 0 if nobody would notice."""
    late = case.answered - _due(case)
    return late if late >= NOTICEABLE_MS else 0


def _due(case: Case) -> int:
    """Return when the answer would have come without the fault.

    ``takes`` counts from the last sleep or step that began before the fault, or else from the request.
    """
    sleeps = [call.promise.created_at - case.ahead for call in case.calls if call.role is Role.TIMER]
    steps = [part.runs[0].began for part in case.parts if part.caller is not None and part.runs]
    begun = [at for at in sleeps + steps if case.fault is not None and at <= case.fault.began]
    return max(begun, default=case.sent) + case.takes


def _json(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}..."


def _seconds(ms: int) -> str:
    return f"{ms / 1_000:.3f} s"
