"""The demo's own services: which there are, and their processes, started against a given server."""

import sys
from pathlib import Path

from harness.process import Process

_LIST = (Path(__file__).parents[2] / "services/services.txt").read_text().splitlines()
LISTED = [line.split() for line in _LIST if line and not line.startswith("#")]
"""Name, group, kind and image of each."""
SERVICES = tuple(name for name, *_ in LISTED)


class ServiceProcess(Process):
    """``python -m {name}``, started at once."""

    def __init__(self, name: str, server_url: str, log: Path, **env: str) -> None:
        super().__init__([sys.executable, "-m", name], log, {"RESONATE_URL": server_url, **env})
        self.launch()

    def runs(self, function: str, promise: str = "") -> int:
        """How often ``function`` began to run, by its log, for promises whose id starts with ``promise``."""
        return runs(self, function, promise)


def runs(worker: Process, function: str, promise: str = "") -> int:
    """How often ``function`` began to run, by the worker's log, for promises whose id starts with ``promise``."""
    marker = f"running function {function}  promise={promise}"
    return sum(line.partition(" ")[2].startswith(marker) for line in worker.output().splitlines())
