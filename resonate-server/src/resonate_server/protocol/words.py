"""Numbers, times and lists as people say them; the page's words are the same."""

from itertools import pairwise

UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))
"""Name and length in ms, longest first."""

MAX_LISTED = 3


def times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def duration(ms: int) -> str:
    """Format a duration, no more precisely than a reader needs: 340 ms, 1.2 s, 3 min 4 s, 2 h, 5 d 1 h."""
    if ms < 1_000:
        return f"{max(ms, 0)} ms"
    if ms < 59_950:
        return f"{ms / 1_000:.1f} s"
    ms = round(ms, -3)
    (unit, length), (smaller, part) = next(pair for pair in pairwise(UNITS) if ms >= pair[0][1])
    rest = ms % length // part
    return f"{ms // length} {unit}" + (f" {rest} {smaller}" if rest else "")


def listed(words: list[str]) -> str:
    """Join words as in a sentence; if there are many, count the rest."""
    shown = words if len(words) <= MAX_LISTED + 1 else [*words[:MAX_LISTED], f"{len(words) - MAX_LISTED} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
