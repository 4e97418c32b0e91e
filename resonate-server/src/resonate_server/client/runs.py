"""Reads the runs of a chain's functions from the workers' logs.

The demo's workers write two lines for each run:

    2026-11-25T20:49:43.130+00:00 running function ship  promise=ID:1  attempt=1
    2026-11-25T20:49:49.432+00:00 ended function ship  promise=ID:1  attempt=1  seconds=6.302  result: 2

A line may be prefixed with the name of its writer (``ship | ...``). All other lines are ignored.
"""

import re
from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

from resonate_server.client.values import printable

LEASE_LOST = "lease lost"
"""Prefix of an outcome that the server refused, in a worker's log."""

_LINE = re.compile(
    r"(?:\S+ +\| )?(?P<time>\S+) (?:[A-Z]+: )?(?P<what>running|ended) function (?P<function>.+?)"
    r"  promise=(?P<id>.+?)  attempt=(?P<attempt>[0-9]{1,9})(?:  seconds=[0-9.]+  (?P<outcome>.*))?",
    re.ASCII,
)


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

    @property
    def has_returned(self) -> bool:
        return self.outcome.startswith("result: ")


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
