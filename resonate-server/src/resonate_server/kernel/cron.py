"""Cron expressions in the protocol's dialect (section 4.4), on top of the croniter library.

UTC; 5 fields (minute hour day month weekday), 6 (seconds first) or 7 (year last). Weekdays are numbered as in Quartz,
from 1 (Sunday) to 7 (Saturday); the library counts from 0. Day and weekday must both match, as on the official server.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from resonate_server.protocol.errors import Malformed

if TYPE_CHECKING:
    from croniter import croniter

MAX_CRON_CHARACTERS = 200

YEARS_AHEAD = 100
"""How far ahead to search for a match: the year field goes up to 2099."""

_EPOCH = datetime.fromtimestamp(0, UTC)
_LAST_MS = 253_402_300_799_000  # the last second that datetime has

_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_UNPREDICTABLE = re.compile(r"[RH](\(.*\))?(/.*)?", re.IGNORECASE)
"""The library's random and hashed fields: a schedule must fire at the same times wherever it is computed."""

_WEEKDAY_PART = re.compile(
    r"(?P<first>[^-/#L]+)(?P<last>-[^/]+)?(?P<nth>#\d)?(?P<final>L)?(?P<step>/\d+)?", re.IGNORECASE
)


def next_match(cron: str, after: int) -> int | None:
    """Return the first match strictly after ``after`` (both ms since the epoch); ``None`` if none within 100 years.

    Raises :class:`Malformed` for an invalid expression.
    """
    try:
        return _ms(_matches(cron).get_next(datetime, _time(after)))
    except (ValueError, OverflowError):
        return None


def latest_match(cron: str, until: int, earlier: int) -> int | None:
    """Return the last match at or before ``until`` (both ms since the epoch), or the one ``earlier`` matches before it.

    Searches backwards, so the number of missed matches does not matter. ``None`` and :class:`Malformed` as in
    :func:`next_match`.
    """
    try:
        matches = _matches(cron)
        matches.set_current(_time(until + 1))
        for _ in range(earlier):
            matches.get_prev(datetime)
        return _ms(matches.get_prev(datetime))
    except (ValueError, OverflowError):
        return None


@lru_cache(1_024)
def _matches(cron: str) -> "croniter":
    """Return the library's iterator, cached because it is slow to create. Set its time before each use.

    Raises ``ValueError`` if no day can match: the library would search all of the 100 years, for most of a second.
    """
    from croniter import CroniterError, croniter  # Here: it slows startup, and many servers never see a schedule.

    try:
        matches = croniter(
            _translate(cron),
            _EPOCH,
            day_or=False,
            second_at_beginning=True,
            max_years_between_matches=YEARS_AHEAD,
        )
    except (CroniterError, ValueError) as error:
        raise Malformed(f"not a cron expression: {cron[:80]!r} ({error})") from None
    if not _may_have_a_day(matches):
        raise ValueError("no such day")
    return matches


def _may_have_a_day(matches: "croniter") -> bool:
    """Return whether some month may have a day that matches: neither ``30 2`` nor ``15 * 1#1`` (Sunday of the first
    week) has one."""
    days: list[Any] = matches.expanded[2]
    months: list[Any] = matches.expanded[3]
    weeks: set[Any] = set().union(*matches.nth_weekday_of_month.values())
    for month in range(1, 13) if "*" in months else months:
        length = _LONGEST_MONTHS[month - 1]
        possible = {day for day in days if isinstance(day, int)}
        if "*" in days:
            possible.update(range(1, length + 1))
        if "l" in days:
            possible.update(range(28, length + 1))
        for day in matches.nearest_weekday:
            possible.update(min(day, length) + shift for shift in range(-2, 3))
        for day in possible:
            is_in_week = not weeks or (day + 6) // 7 in weeks or ("l" in weeks and day > 21)
            if day <= length and is_in_week:
                return True
    return False


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(min(ms, _LAST_MS) / 1_000, UTC)


def _ms(time: datetime) -> int:
    return int(time.timestamp()) * 1_000


def _translate(cron: str) -> str:
    """Return the expression with the library's weekday numbers."""
    fields = cron.split()
    if len(cron) > MAX_CRON_CHARACTERS or len(fields) not in (5, 6, 7):
        raise ValueError("expected 5, 6 or 7 fields: [second] minute hour day month weekday [year]")
    for part in ",".join(fields).split(","):
        if _UNPREDICTABLE.fullmatch(part):
            raise ValueError(f"{part!r} is not a fixed time")
    weekday = 4 if len(fields) == 5 else 5
    fields[weekday] = ",".join(_translate_weekdays(part) for part in fields[weekday].split(","))
    return " ".join(fields)


def _translate_weekdays(part: str) -> str:
    """Translate an element of the weekday field: a day, range, ``n#k`` (k-th) or ``nL`` (last), with optional step."""
    match = _WEEKDAY_PART.fullmatch(part)
    if match is None:
        raise ValueError(f"weekday {part!r}")
    first = _translate_day(match["first"])
    last = "-" + _translate_day(match["last"][1:]) if match["last"] else ""
    final = "L" if match["final"] else ""
    return f"{final}{first}{last}{match['nth'] or ''}{match['step'] or ''}"


def _translate_day(day: str) -> str:
    if not day.isdigit():
        return day
    if not 1 <= int(day) <= 7:
        raise ValueError(f"weekday {day}: 1 is Sunday, 7 is Saturday")
    return str(int(day) - 1)
