"""Deleting settled trees in portions: where one ends, the next one begins."""

from msgspec import Struct

type SettledRoot = tuple[int, str]
"""Time of settlement (ms) and id; roots are visited in this order."""

FIRST: SettledRoot = (-1, "")
"""Comes before all roots."""


class Dropped(Struct, frozen=True):
    """``tasks``: how many were deleted with their trees; ``last``: the last root visited, ``None`` if none follow."""

    tasks: int
    last: SettledRoot | None
