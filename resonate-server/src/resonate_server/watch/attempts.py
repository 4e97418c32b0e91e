"""Derives the life of each call of a chain, which the page and the terminal draw. Pure.

An *attempt* is one claim of a call's task; its number is the task's version. (A *run* is one execution of the function,
as the worker's log shows it: an attempt has one, and one more each time it continues without giving the task up.) The
life of a call is a list of phases: it waits, runs, is suspended, or lacks a worker.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any

from msgspec.structs import replace

from resonate_server.protocol.lineage import Row
from resonate_server.protocol.records import Role, TaskState
from resonate_server.watch.absences import FOREVER, ConnectionHistory
from resonate_server.watch.derive import RELEASED
from resonate_server.watch.events import ChainEvent, What
from resonate_server.watch.views import Kind, Phase, PromiseView

MAX_PIECES = 20_000
"""Gaps, and phases of steps, that are shown in one chain. Each call has an equal share, and shows its latest ones."""

DONE_AGAIN = {"gone", "lease", RELEASED}
"""Reasons for an attempt that repeats what the previous one had begun; with any other reason it continues."""


class Lives:
    """The lives of a chain's calls, from the events since ``since`` (ms), in order. Events of other servers may be
    missing; later events, or the record, make up for them."""

    def __init__(self, since: int) -> None:
        self._since = since
        self._phases: dict[str, list[Phase]] = {}
        self._born: set[str] = set()
        """Promises whose creation was seen."""
        self.refused: set[str] = set()
        """Calls with an attempt whose write was refused because it had lost its lease."""

    def take(self, event: ChainEvent) -> None:
        if event.kind is What.CREATED:
            self._born.add(event.id)
            return
        if event.kind is What.REFUSED:
            self.refused.add(event.id)
            return
        phases = self._phases.setdefault(event.id, [])
        before = _before(event, self._since)
        if not phases and event.id not in self._born:
            phases.append(before)
        elif phases and before.kind is Kind.RUNNING:
            _begin_missed_attempt(phases, replace(before, begin=event.at))
        _follow(phases, event)

    def of(self, call: PromiseView) -> list[Phase]:
        """Return the phases that were seen; for the time before, only the record is known."""
        phases = self._phases.get(call.id, [])
        if phases:  # a promise created as settled has none
            _bring_up_to_date(phases, call)
        if call.id in self._born:
            return phases or [_recorded(call, call.created_at)]
        if not phases and call.settled_at is not None:
            return [_unknown(call, call.settled_at, 0 if call.task is None else call.task.attempt)]
        begin = max(self._since, call.created_at)
        phases = phases or [replace(_recorded(call, begin), known=False)]
        first = phases[0] = replace(phases[0], begin=begin)
        if begin == call.created_at:
            return phases
        return [_unknown(call, begin, first.attempt - (first.kind is Kind.RUNNING)), *phases]


def _unknown(call: PromiseView, until: int, attempts: int) -> Phase:
    return Phase(Kind.UNKNOWN, call.created_at, until, attempt=max(attempts, 0), known=False)


def fill_in(rows: list[Row[PromiseView]], lives: Lives, history: ConnectionHistory) -> Iterator[None]:
    """Set the phases of each promise of a chain, and yield after each one. ``history`` knows when workers were
    connected."""
    share = MAX_PIECES // max(len(rows), 1) + 1
    away = cache(lambda pid: history.away(pid)[-share:])
    absent = cache(lambda group: history.absent(group)[-share:])
    for row in rows:  # A call stands before the steps that it runs.
        promise = row.node
        match promise.role:
            case Role.CALL:
                promise.phases = _with_gaps(lives.of(promise), away, absent, promise.group or "")
            case Role.STEP if row.host is not None:
                promise.phases = _of_step(promise, row.host.phases)[-share:]
            case Role.TIMER:
                promise.phases = [_whole(Kind.TIMER, promise)]
            case _:
                promise.phases = [replace(_whole(Kind.WAITING, promise), reason="outside")]
        yield


# ── from events ──


def _follow(phases: list[Phase], event: Any) -> None:
    """Continue a life by an event: a :class:`PromiseSettled` or :class:`TaskNews`."""
    phase = partial(Phase, begin=event.at, attempt=event.version)
    waiting, running = _open(phases, Kind.WAITING), _open(phases, Kind.RUNNING)
    idle = waiting or _open(phases, Kind.GAP)
    match event.kind:
        case What.QUEUED if idle is None:
            _begin(phases, phase(Kind.WAITING, reason=event.reason))
        case What.QUEUED if waiting is not None and event.reason == "retry":
            waiting.reason = event.reason
        case What.SENT if waiting is not None:
            waiting.pid = event.pid
        case What.UNCLAIMED if idle is not None:
            idle.trouble = event.trouble
        case What.CLAIMED:
            _run(phases, phase(Kind.RUNNING, pid=event.pid))
        case What.SUSPENDED:
            _begin(phases, phase(Kind.SUSPENDED, pid=event.pid, on=event.on))
        case What.LOST:  # A gap follows until a worker claims the task.
            if running is not None:
                running.broken = True
            _begin(phases, phase(Kind.GAP, pid=event.pid, reason=event.reason))
        case What.RELEASED:
            _begin(phases, phase(Kind.WAITING, reason=RELEASED, trouble=event.trouble, why=event.why))
        case What.HALTED:
            _begin(phases, phase(Kind.HALTED))
        case What.SETTLED:
            _end(phases, event.settled_at)


def _begin(phases: list[Phase], phase: Phase) -> None:
    """Begin a phase, never before the previous one, whatever the clocks say."""
    _end(phases, phase.begin)
    if phases:
        phase.begin = max(phase.begin, phases[-1].end or 0)
    phases.append(phase)


def _end(phases: list[Phase], at: int) -> None:
    if phases and phases[-1].end is None:
        phases[-1].end = max(at, phases[-1].begin)


def _open(phases: list[Phase], kind: Kind) -> Phase | None:
    """Return the current phase if it is of this kind."""
    return phases[-1] if phases and phases[-1].end is None and phases[-1].kind is kind else None


def _run(phases: list[Phase], running: Phase) -> None:
    """Begin an attempt. How the previous one ended tells why, and whether this one repeats it."""
    before = next((phase for phase in reversed(phases) if phase.kind is not Kind.WAITING), None)
    reason = "" if before is None else _CAUSES.get(before.kind, before.reason)
    retries = max((phase.retries for phase in phases), default=0) + (reason in DONE_AGAIN)
    why = phases[-1].why if phases else ""
    _begin(phases, replace(running, reason=reason, why=why, retries=retries))


def _begin_missed_attempt(phases: list[Phase], running: Phase) -> None:
    """Begin an attempt whose claim was not reported; it may have come as soon as the task waited."""
    last = phases[-1]
    if last.attempt < running.attempt:
        _run(phases, replace(running, begin=last.begin) if last.kind is Kind.WAITING else running)


_CAUSES = {Kind.RUNNING: RELEASED, Kind.SUSPENDED: "resumed", Kind.HALTED: "continued", Kind.UNKNOWN: ""}
"""Reason for an attempt, by the kind of phase before it. After a gap, it is the gap's own reason."""


# ── from records ──


def _bring_up_to_date(phases: list[Phase], call: PromiseView) -> None:
    """Complete the phases from the record, in case events are missing."""
    last, task = phases[-1], call.task
    if task is not None and last.end is None:
        if task.attempt > last.attempt and task.state in _CLAIMED:
            _begin_missed_attempt(
                phases, Phase(Kind.RUNNING, last.begin, attempt=task.attempt, pid=task.pid, known=False)
            )
        if task.state is TaskState.SUSPENDED and phases[-1].kind is Kind.RUNNING:
            _begin(phases, replace(_recorded(call, last.begin), known=False))
    if call.settled_at is not None:
        _end(phases, call.settled_at)


_CLAIMED = {TaskState.ACQUIRED, TaskState.SUSPENDED, TaskState.FULFILLED}

_KINDS = {
    TaskState.PENDING: Kind.WAITING,
    TaskState.ACQUIRED: Kind.RUNNING,
    TaskState.SUSPENDED: Kind.SUSPENDED,
    TaskState.HALTED: Kind.HALTED,
}


def _recorded(call: PromiseView, begin: int) -> Phase:
    """Return the phase that the record shows, as if nothing had happened since ``begin``."""
    task = call.task
    if task is None:
        return Phase(Kind.UNKNOWN, begin, call.settled_at)
    return Phase(
        _KINDS.get(task.state, Kind.UNKNOWN),
        begin,
        call.settled_at,
        attempt=task.attempt,
        pid=task.pid,
        trouble=task.trouble,
        on=[*call.awaits],
    )


def _before(event: Any, since: int) -> Phase:
    """Infer the phase before the first event that was seen of a call."""
    before = partial(Phase, begin=since, attempt=event.version, known=False)
    match event.kind:
        case What.CLAIMED:
            return before(Kind.WAITING, attempt=event.version - 1)
        case What.QUEUED if event.reason == "resumed":
            return before(Kind.SUSPENDED)
        case What.QUEUED | What.SENT | What.UNCLAIMED:
            return before(Kind.WAITING)
        case What.SUSPENDED | What.LOST | What.RELEASED | What.SETTLED if event.pid is not None:
            return before(Kind.RUNNING, pid=event.pid)
    return before(Kind.UNKNOWN)


def _whole(kind: Kind, promise: PromiseView) -> Phase:
    return Phase(kind, promise.created_at, promise.settled_at)


# ── gaps: workers that were away ──

type Holes = list[tuple[int, int]]
"""Sorted; they do not overlap."""

_LACK = {Kind.RUNNING: "silent", Kind.SUSPENDED: "absent", Kind.WAITING: "nobody"}
"""Reason for a gap, by the kind of phase it interrupts."""


def _with_gaps(
    phases: list[Phase], away: Callable[[str], Holes], absent: Callable[[str], Holes], group: str
) -> list[Phase]:
    """Insert gaps. Running requires the call's own worker; any other phase requires one of the group."""
    pieces: list[Phase] = []
    for phase in phases:
        holes: Holes = []
        if phase.kind is Kind.RUNNING:
            holes = away(phase.pid) if phase.pid else []
        elif phase.kind in (Kind.WAITING, Kind.SUSPENDED, Kind.GAP):
            holes = absent(group)
        pieces += _pierced(phase, holes) if holes else (phase,)
    return _joined(pieces)


def _pierced(phase: Phase, holes: Holes) -> Iterable[Phase]:
    """Return ``phase`` with gaps where ``holes`` are. A phase that a gap cuts short is broken, and kept even at zero
    length, because a worker had begun it."""
    end = phase.until
    at = phase.begin
    for hole_begin, hole_end in holes[bisect_right(holes, at, key=lambda hole: hole[1]) :]:
        begin, until = max(hole_begin, at), min(hole_end, end)
        if begin >= until:
            break
        ends_at_once = phase.kind is Kind.SUSPENDED or (phase.kind is Kind.RUNNING and until == end)
        if begin > at or (begin == phase.begin and ends_at_once):
            yield replace(phase, begin=at, end=begin, broken=phase.kind in (Kind.RUNNING, Kind.SUSPENDED))
        reason = phase.reason if phase.kind is Kind.GAP else _LACK[phase.kind]
        yield replace(phase, kind=Kind.GAP, begin=begin, end=_or_open(until), reason=reason, broken=False)
        at = until
    if at < end or at == phase.begin:
        yield replace(phase, begin=at)


def _joined(pieces: Iterable[Phase]) -> list[Phase]:
    """Merge consecutive gaps: keep begin, attempt and worker of the first, and everything else of the last."""
    joined: list[Phase] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if last is not None and last.kind is piece.kind is Kind.GAP:
            joined[-1] = replace(piece, begin=last.begin, attempt=last.attempt, pid=last.pid or piece.pid)
        else:
            joined.append(piece)
    return joined


def _or_open(end: int) -> int | None:
    return None if end == FOREVER else end


# ── steps: they have no task of their own ──


def _of_step(step: PromiseView, host: list[Phase]) -> list[Phase]:
    """Return a step's phases: it runs while its host runs, and breaks off with it."""
    whole = _whole(Kind.RUNNING, step)
    pieces = []
    for phase in host:
        begin, until = max(phase.begin, whole.begin), min(phase.until, whole.until)
        if begin < until:
            broken = phase.broken and until == phase.until
            pieces.append(replace(phase, begin=begin, end=_or_open(until), broken=broken, step=True))
    return pieces or [replace(whole, step=True)]
