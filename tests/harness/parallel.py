"""A plugin of pytest: what pytest-xdist gives to which of its processes, and in which order.

The tests of a file stay together, because they share what its fixtures start. The two kinds of stack are two files in
this respect, and so are the faults by which the page is tried. What takes longest begins first, so that no process is
left alone with it in the end.
"""

import os
import re

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

FIRST = ("tests/stack/", "tests/ui/", "tests/", "bench/", "resonate-server/tests/integration/", "")
"""Folders, by how long their files take."""

_PART = re.compile(r"\[(processes|containers)\b|-(kill|pause|freeze)-")


class ByFile(LoadScopeScheduling):
    """Deals out one file after the other."""

    def _split_scope(self, nodeid: str) -> str:
        part = _PART.search(nodeid)
        return nodeid.split("::")[0] + (part[0] if part else "")


def pytest_configure(config: pytest.Config) -> None:
    """What `readline` sets in the parent is no width of ours: what is started here would believe it has a terminal."""
    if hasattr(config, "workerinput"):
        for name in ("COLUMNS", "LINES"):
            os.environ.pop(name, None)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next(rank for rank, folder in enumerate(FIRST) if item.nodeid.startswith(folder)))
