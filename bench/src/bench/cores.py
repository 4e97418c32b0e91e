"""Which core a process may use, where the system lets one say so (Linux)."""

import os

import psutil
from msgspec import Struct


class Cores(Struct, frozen=True):
    """One for what is measured, another for the load; ``None`` where processes cannot be tied to cores."""

    server: int | None = None
    load: int | None = None


def choose() -> Cores:
    """Two of those that this process may use, if there are two."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores()
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1]) if len(usable) > 1 else Cores()


def tie(pid: int, core: int | None) -> None:
    """Every thread of a process; those that are made later inherit it."""
    if core is not None:
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, {core})
