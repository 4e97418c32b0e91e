"""The workers and their groups as they appear on the wire, with their load."""

from collections.abc import Iterable

from msgspec import Struct

from resonate_server.delivery.presence import Member, State
from resonate_server.store import Occupation

MAX_WORKERS = 1_000
"""Workers that are shown. Those that are gone are left out first, then the newest."""


class WorkerView(Struct, gc=False):
    """One process in one group. ``held`` is ``None`` if the viewer may not know it."""

    pid: str
    group: str
    since: int
    heard: int
    state: State
    held: int | None
    gone_at: int | None


class GroupView(Struct, frozen=True):
    """``waiting``: tasks that wait for a worker of the group."""

    name: str
    waiting: int | None
    workers: list[WorkerView]


def groups(members: Iterable[Member], occupation: Occupation) -> list[GroupView]:
    """Return all groups with their workers and the number of waiting tasks, sorted by name."""
    workers: dict[str, list[WorkerView]] = {name: [] for name in occupation.queued}
    for each in sorted(members, key=_by_arrival)[:MAX_WORKERS]:
        held = occupation.held.get(each.pid, 0)
        worker = WorkerView(each.pid, each.group, each.since, each.heard, each.state, held, each.gone_at)
        workers.setdefault(each.group, []).append(worker)
    return [GroupView(name, occupation.queued.get(name, 0), workers[name]) for name in sorted(workers)]


def _by_arrival(member: Member) -> tuple[bool, int, str]:
    return member.gone_at is not None, member.since, member.pid
