"""Tells what a fault did to a chain, in sentences that form one paragraph: which worker was lost and when, what was
kept, who continued, what ran twice and why, and what it cost. Pure.

The page and the terminal show these sentences as they are. They need nothing but the phases of the chain's calls.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from msgspec import Struct

from resonate_server.protocol.lineage import Row
from resonate_server.protocol.records import PromiseState, Role
from resonate_server.protocol.words import duration, listed
from resonate_server.watch.absences import Outage
from resonate_server.watch.attempts import DONE_AGAIN
from resonate_server.watch.views import Kind, Phase, PromiseView

MAX_FAULTS = 4
"""Faults that are described; the others are only counted."""

NAME_SHOWN = 40
"""Characters of a name or a result."""

NOTICEABLE_MS = 1_000
"""A shorter absence that lost nothing is not worth telling."""


NOTHING = Phase(Kind.UNKNOWN, 0)


class Break(Struct, frozen=True):
    """A time when a call lacked a worker. ``before`` and ``after``: what the call did before and after it, or
    :data:`NOTHING`."""

    call: PromiseView
    before: Phase
    gap: Phase
    after: Phase

    @property
    def broke_off(self) -> bool:
        return self.before.kind is Kind.RUNNING and self.before.broken

    @property
    def was_suspended(self) -> bool:
        return self.before.kind is Kind.SUSPENDED

    @property
    def goes_on(self) -> bool:
        return self.after.kind is Kind.RUNNING

    @property
    def was_bridged(self) -> bool:
        """The worker was back in time and still held its lease, as when it turns to another server."""
        if self.after is NOTHING:
            return self.gap.end is not None
        return self.after.kind in (Kind.RUNNING, Kind.SUSPENDED) and self.after.attempt == self.gap.attempt

    @property
    def is_worth_telling(self) -> bool:
        """A call that still waits for its first worker has met no fault."""
        if (self.broke_off and not self.was_bridged) or (self.was_suspended and self.gap.end is None):
            return True
        is_noticeable = self.gap.end is not None and self.gap.end - self.gap.begin >= NOTICEABLE_MS
        return is_noticeable and (self.broke_off or self.was_suspended or self.goes_on)

    def delay(self, settled: dict[str, int]) -> tuple[int, int]:
        """Return the time in which a call that runs again could have run but had no worker. A suspended call needs no
        worker until what it waits for has settled."""
        needs = [settled[id] for id in self.before.on if id in settled] if self.was_suspended else []
        return max([self.gap.begin, *needs]), self.after.begin


class Loss(Struct, frozen=True):
    """What happened to the workers of ``group`` at ``at`` (ms)."""

    group: str
    at: int
    breaks: list[Break]


def story(rows: list[Row[PromiseView]], outages: list[Outage], refused: Iterable[str]) -> list[str]:
    """Return the sentences; none if there was no fault. The promises have their phases; ``refused``: calls with an
    attempt that sent its outcome after it had lost its lease."""
    faults = _faults([row.node for row in rows])
    if not rows or not (faults or outages):
        return []
    return [*_Story(rows, faults, outages, set(refused)).tell()]


def _faults(promises: list[PromiseView]) -> list[Loss]:
    """Find the faults. Calls of one group that lose their worker at the same moment have lost the same one."""
    found: dict[tuple[str, int], Loss] = {}
    for call in promises:
        if call.role is Role.CALL:
            for each in filter(lambda each: each.is_worth_telling, _breaks(call)):
                key = call.group or "", each.gap.begin
                found.setdefault(key, Loss(*key, [])).breaks.append(each)
    return sorted(found.values(), key=lambda fault: fault.at)


def _breaks(call: PromiseView) -> Iterator[Break]:
    before = NOTHING
    for number, phase in enumerate(call.phases, 1):
        if phase.kind is Kind.GAP:
            # A short wait for a worker that is connected does not count as what it did after the gap.
            after = next((later for later in call.phases[number:] if later.kind is not Kind.WAITING), NOTHING)
            yield Break(call, before, phase, after)
        before = phase


class _Redone(Struct, frozen=True):
    """Something that ran again from its beginning after it had run for ``ms``."""

    name: str
    ms: int


class _Story:
    def __init__(
        self, rows: list[Row[PromiseView]], faults: list[Loss], outages: list[Outage], refused: set[str]
    ) -> None:
        self._promises = promises = [row.node for row in rows]
        self._faults = faults
        self._outages = outages
        self._refused = refused
        self._begin = min(promise.created_at for promise in promises)
        self._steps: defaultdict[str, list[PromiseView]] = defaultdict(list)
        for row in rows:
            if row.host is not None:
                self._steps[row.host.id].append(row.node)
        self._parents = {promise.parent for promise in promises}
        self._redone = [[*self._redone_by(each)] for fault in faults for each in fault.breaks]

    def tell(self) -> Iterator[str]:
        for fault in self._faults[:MAX_FAULTS]:
            yield self._who(fault)
            yield from self._what_followed(fault)
        if (more := len(self._faults) - MAX_FAULTS) > 0:
            yield f"That happened {'once more' if more == 1 else f'{more} more times'}."
        for outage in self._outages[-MAX_FAULTS:]:
            away = f"away for {duration(outage.end - outage.begin)}, from {self._when(outage.begin)}"
            yield f"The server itself was {away}; what it had acknowledged was on disk."
        yield from self._kept()
        yield from self._ran_twice()
        yield from self._cost()

    def _when(self, at: int) -> str:
        return f"{duration(max(at - self._begin, 0))} after the chain began"

    # ── one fault ──

    def _who(self, fault: Loss) -> str:
        broken = [each for each in fault.breaks if each.broke_off]
        if not broken:
            return self._nobody(fault)
        first = broken[0]
        who = f"Worker {short_pid(first.before.pid or '')} of {fault.group}"
        what = listed([f"{name_of(each.call)} (attempt {each.gap.attempt})" for each in broken])
        if first.gap.reason == "lease":
            return f"{who} hung and lost its lease {self._when(fault.at)}, in the middle of {what}."
        return f"{who} was gone {self._when(fault.at)}, in the middle of {what}."

    def _nobody(self, fault: Loss) -> str:
        names = listed([name_of(each.call) for each in fault.breaks])
        lack = f"From {max(fault.at - self._begin, 0) / 1_000:.1f} s on, {fault.group} had no worker"
        if any(each.was_suspended for each in fault.breaks):
            are = "was" if len(fault.breaks) == 1 else "were"
            return f"{lack}. {names} {are} suspended, so nothing was interrupted."
        return f"{lack} for {names}."

    def _what_followed(self, fault: Loss) -> Iterator[str]:
        if waiting := [name_of(each.call) for each in fault.breaks if each.gap.end is None]:
            yield f"{listed(waiting)} {'waits' if len(waiting) == 1 else 'wait'} for a worker of {fault.group}."
        going_on = next((each for each in fault.breaks if each.goes_on), None)
        if going_on is not None:
            after = going_on.after
            name, is_first = name_of(going_on.call), after.attempt == 1
            what = f"began {name}" if is_first else f"continued {name} in attempt {after.attempt},"
            yield f"Worker {short_pid(after.pid or '')} {what} {duration(after.begin - fault.at)} later."
        elif ends := [each.gap.end for each in fault.breaks if each.gap.end is not None]:
            yield f"A worker was back {duration(min(ends) - fault.at)} later."
        late = [each for each in fault.breaks if each.broke_off and each.call.id in self._refused]
        if late:
            sender = short_pid(late[0].before.pid or "")
            results = "result" if len(late) == 1 else "results"
            names = listed([name_of(each.call) for each in late])
            yield f"What worker {sender} sent too late, the {results} of {names}, was refused."

    def _redone_by(self, broken: Break) -> Iterator[_Redone]:
        """Yield what had begun but not finished, and so ran again from its beginning. A call that had made calls also
        restarts, but the results of those are recorded."""
        before, after, at, call = broken.before, broken.after, broken.gap.begin, broken.call
        if not broken.broke_off or after.reason not in DONE_AGAIN:
            return
        for step in self._steps[call.id]:
            if step.created_at <= at and (step.settled_at is None or step.settled_at > at):
                yield _Redone(f"{name_of(step)}, a step of {name_of(call)},", at - max(step.created_at, before.begin))
        if call.id not in self._parents:
            yield _Redone(name_of(call), at - before.begin)

    # ── the whole chain ──

    def _kept(self) -> Iterator[str]:
        """Tell what the server knew when the first fault struck."""
        at = min([fault.at for fault in self._faults] + [outage.begin for outage in self._outages])
        done: list[str] = []
        unfinished: list[str] = []
        for call in self._promises:
            if call.role is Role.CALL and call.created_at <= at:
                if call.settled_at is not None and call.settled_at <= at:
                    done.append(f"{name_of(call)}'s result {_brief(call)}")
                else:
                    unfinished.append(name_of(call))
        calls = "call" if len(unfinished) == 1 else "calls"
        kept = [f"the unfinished {calls} of {listed(unfinished)}"] if unfinished else []
        kept += [listed(done)] if done else []
        if kept:
            yield f"The server kept {', and '.join(kept)}; no call was made a second time."

    def _ran_twice(self) -> Iterator[str]:
        if again := [redone.name for of_break in self._redone for redone in of_break]:
            yield f"{listed(again)} ran again from the beginning, because the first run had not finished."
        elif self._faults and all(each.gap.end is not None for fault in self._faults for each in fault.breaks):
            yield "No work was repeated."

    def _cost(self) -> Iterator[str]:
        root = next((each for each in self._promises if each.parent is None), self._promises[0])
        if root.settled_at is None:
            return
        settled = {each.id: each.settled_at for each in self._promises if each.settled_at is not None}
        lost = _union([each.delay(settled) for fault in self._faults for each in fault.breaks if each.goes_on])
        parts = [f"for {duration(lost)} it had no worker"] if lost else []
        twice = sum(max((redone.ms for redone in of_break), default=0) for of_break in self._redone)
        parts += [f"{duration(twice)} of work was done twice"] if twice else []
        what = "resolved" if root.state is PromiseState.RESOLVED else "over"
        took = f"The chain was {what} after {duration(root.settled_at - root.created_at)}"
        if parts:
            yield f"{took}: {' and '.join(parts)}."
        else:
            yield f"{took}." if self._outages else f"{took}, no later than without the fault."


# ── words ──


def name_of(promise: PromiseView) -> str:
    return _cut(promise.func or ("a step" if promise.role is Role.STEP else promise.id))


def short_pid(pid: str) -> str:
    """Shorten a pid as the page does: generated ids differ in their first characters, chosen ones at both ends."""
    if re.match("[0-9a-fA-F]{8}", pid):
        return pid[:4]
    return pid if len(pid) <= 10 else f"{pid[:5]}…{pid[-4:]}"


def _brief(promise: PromiseView) -> str:
    return "nothing" if promise.value is None else _cut(promise.value.text)


def _cut(text: str) -> str:
    return text if len(text) <= NAME_SHOWN else f"{text[: NAME_SHOWN - 1]}…"


def _union(spans: list[tuple[int, int]]) -> int:
    """Return the length of the time (ms) that at least one of ``spans`` covers."""
    covered, until = 0, 0
    for begin, end in sorted(spans):
        covered += max(0, end - max(begin, until))
        until = max(until, end)
    return covered
