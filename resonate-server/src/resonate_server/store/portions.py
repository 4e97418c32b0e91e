"""Deleting settled trees in portions: where one ends, the next one begins."""

from msgspec import Struct

type SettledRoot = tuple[int, str]
"""Time of settlement (ms) and id: roots are looked at in this order."""

FIRST: SettledRoot = (-1, "")
"""Before all of them."""


class Dropped(Struct, frozen=True):
    """How many tasks were deleted with their trees.

    ``last``: the last root that was looked at; ``None`` if there are no further ones.
    """

    tasks: int
    last: SettledRoot | None
