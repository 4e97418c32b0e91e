"""A pytest plugin that decides which tests pytest-xdist gives to which process, and in which order.

The tests of a file stay together, because they share what its fixtures start. Some files are split: by the kind of
stack, by the fault that the tests of the page cause, into long randomised runs and the rest, and for the SDK that takes
long to build. The longest start first, so that no process is left working alone at the end.
"""

import gc
import os
import re
import signal
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

FIRST = (
    r"tests/clients/.*\brust-",
    r"tests/stack/test_(crash|stack).*\[containers",
    r"tests/siege/",
    r".*\[many\]",
    r"tests/stack/test_(services|chaos).*\[containers",
    r"tests/ui/test_picture",
    r"tests/own/",
    r"tests/durability/",
    r"bench/tests/test_(runs|start|recovery)",
    r"tests/(stack|ui|clients)/",
    r"tests/(examples|unit_services)/",
    r"resonate-server/tests/integration/",
    r"tests/unit_worker/|resonate-server/tests/unit/store/",
    r"",
)
"""Tests, ordered by how long their files take."""

_PART = re.compile(r"\[(processes|containers)\b|\[many\]|\brust-|-(kill|pause|freeze)-")


class ByFile(LoadScopeScheduling):
    """Assigns one file after the other."""

    def _split_scope(self, nodeid: str) -> str:
        part = _PART.search(nodeid)
        return nodeid.split("::")[0] + (part[0] if part else "")

    def _reschedule(self, node: WorkerController) -> None:
        """A process begins its last test once it knows what comes next, so reserve nothing more for it."""
        if not self.workqueue or self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        """The file that follows a file of one test waits until that test is over, so choose the shortest."""
        if any(len(file) == 1 and not all(file.values()) for file in self.assigned_work[node].values()):
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


def pytest_configure(config: pytest.Config) -> None:
    """Let the programs that tests start inherit only what most users' terminals would pass on."""
    gc.disable()  # until everything is collected, which takes a fifth less time without
    looks = ["FORCE_COLOR", "NO_COLOR"]
    if hasattr(config, "workerinput"):  # the parent's `readline` sets these; they would count as a terminal's size
        looks += ["COLUMNS", "LINES"]
    for name in looks:
        os.environ.pop(name, None)
    # What tests download may come through a proxy, but what listens here for a test cannot be reached through it.
    direct = ",".join(filter(None, (os.environ.get("no_proxy"), "localhost", "127.0.0.1")))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = direct
    # A shell makes background jobs ignore Ctrl-C, and nohup makes its command ignore SIGHUP. Child processes inherit
    # ignored signals, and a bash script cannot even trap them. Handlers are not inherited.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_collection_finish() -> None:
    gc.freeze()  # what is there stays: looking through it again and again would slow the tests down
    gc.enable()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile | None:
    return ByFile(config, log) if config.getoption("dist") == "load" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Alternate between folders among files of one rank: the tests of some folders compute, those of others wait."""
    files: dict[tuple[int, Path], list[Path]] = {}

    def place(item: pytest.Item) -> tuple[int, int]:
        rank = next(rank for rank, those in enumerate(FIRST) if re.match(those, item.nodeid))
        of_folder = files.setdefault((rank, item.path.parent), [])
        if item.path not in of_folder:
            of_folder.append(item.path)
        return rank, of_folder.index(item.path)

    items.sort(key=place)
