"""The demo's own services: their list, and their processes, connected to a given server."""

import sys
from pathlib import Path

from harness.process import Process

_LIST = (Path(__file__).parents[2] / "services/services.txt").read_text().splitlines()
LISTED = [line.split() for line in _LIST if line and not line.startswith("#")]
"""Name, group, kind and image of each."""
SERVICES = tuple(name for name, *_ in LISTED)
CONNECTED = "connected to server"
"""Printed by a worker once its stream is established."""


class ServiceProcess(Process):
    """``python -m {name}``, started at once."""

    def __init__(self, name: str, server_url: str, log: Path, **env: str) -> None:
        super().__init__([sys.executable, "-m", name], log, {"RESONATE_URL": server_url, **env})
        self.launch()
