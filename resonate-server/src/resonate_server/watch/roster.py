"""The workers that have, or lately had, a stream: since when, last heard of, silent, gone."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from resonate_server.store import Occupation

MAX_WORKERS = 1_000
"""Workers that are remembered. Those that are gone are forgotten first."""

GONE_KEPT_MS = 10 * 60_000
"""How long a worker that is gone is shown."""

ABSENT_MS = 15_000
"""A worker whose stream was ended as planned is back within a second; after this long it counts as gone."""

HEARD_EVERY_MS = 1_000
"""That a worker was heard of is told at most so often."""

HEARD_SHARE_MS = 50
"""With very many workers less often: so long after another one, on average. It is not to drive out what happens."""


class Worker(Struct, gc=False):
    """One process in one group, as it stands on the wire. ``held`` is ``None`` where it must not be told."""

    pid: str
    group: str
    since: int
    heard: int
    state: str = "connected"
    held: int | None = 0
    gone_at: int | None = None


class Group(Struct, frozen=True):
    """``waiting``: tasks that are owed to a worker of the group."""

    name: str
    waiting: int | None
    workers: list[Worker]


class _Seat(Struct):
    """``left_at``: when its stream ended; ``told_at``: when it was last told that it was heard of."""

    worker: Worker
    left_at: int | None = None
    planned: bool = False
    told_at: int = 0


class Roster:
    """Times are in ms since the epoch."""

    def __init__(self) -> None:
        self._seats: dict[str, dict[str, _Seat]] = {}
        """By pid and group: a process may have streams in several groups."""

    def connected(self, group: str, pid: str, now: int) -> bool:
        """Tells whether it is back after a stream that was ended as planned."""
        seats = self._seats.setdefault(pid, {})
        earlier = seats.get(group)
        if earlier is not None and earlier.worker.gone_at is None and (earlier.planned or earlier.left_at is None):
            again = earlier.planned
            earlier.left_at, earlier.planned = None, False
            earlier.worker.state, earlier.worker.heard = "connected", now
            return again
        seats[group] = _Seat(Worker(pid=pid, group=group, since=now, heard=now))
        if len(self._seats) > MAX_WORKERS:
            self._forget_one()
        return False

    def left(self, group: str, pid: str, planned: bool, now: int) -> None:
        seat = self._seats.get(pid, {}).get(group)
        if seat is None:
            return
        seat.left_at, seat.planned = now, planned
        if not planned:
            seat.worker.state = "silent"

    def silent(self, pid: str) -> list[str]:
        """It let a lease lapse; tells in which groups it is."""
        for seat in self._seats.get(pid, {}).values():
            if seat.worker.gone_at is None:
                seat.worker.state = "silent"
        return [*self._seats.get(pid, {})]

    def gone(self, pid: str, now: int) -> list[str]:
        """It stayed away for too long; tells from which groups it is gone."""
        gone = [group for group, seat in self._seats.get(pid, {}).items() if seat.left_at is not None]
        for group in gone:
            _mark_gone(self._seats[pid][group], now)
        return gone

    def heard(self, pid: str, now: int) -> Sequence[str]:
        """It has sent a request; tells the groups in which that is news."""
        seats = self._seats.get(pid)
        if seats is None:
            return ()
        news: list[str] = []
        pause = max(HEARD_EVERY_MS, len(self._seats) * HEARD_SHARE_MS)
        for group, seat in seats.items():
            seat.worker.heard = now
            if now - seat.told_at >= pause:
                seat.told_at = now
                news.append(group)
                if seat.left_at is None:
                    seat.worker.state = "connected"
        return news

    def groups(self, occupation: Occupation, now: int) -> list[Group]:
        """Everybody, and what waits for them, ascending by name."""
        self._forget_old(now)
        workers: dict[str, list[Worker]] = {name: [] for name in occupation.queued}
        for seat in self._all():
            worker = seat.worker
            worker.held = occupation.held.get(worker.pid, 0)
            workers.setdefault(worker.group, []).append(worker)
        return [
            Group(name, occupation.queued.get(name, 0), sorted(workers[name], key=_by_arrival))
            for name in sorted(workers)
        ]

    def _all(self) -> Iterator[_Seat]:
        for seats in self._seats.values():
            yield from seats.values()

    def _forget_old(self, now: int) -> None:
        for pid, seats in list(self._seats.items()):
            for group, seat in list(seats.items()):
                gone_at = seat.worker.gone_at
                if gone_at is None and seat.left_at is not None and now - seat.left_at > ABSENT_MS:
                    _mark_gone(seat, now)
                elif gone_at is not None and now - gone_at > GONE_KEPT_MS:
                    del seats[group]
            if not seats:
                del self._seats[pid]

    def _forget_one(self) -> None:
        """Of those without a stream the one that came first, else the one that came first."""
        idle = (pid for pid, seats in self._seats.items() if all(s.left_at is not None for s in seats.values()))
        del self._seats[next(idle, next(iter(self._seats)))]


def _mark_gone(seat: _Seat, now: int) -> None:
    seat.worker.state, seat.worker.gone_at = "gone", now


def _by_arrival(worker: Worker) -> tuple[bool, int, str]:
    return worker.gone_at is not None, worker.since, worker.pid
