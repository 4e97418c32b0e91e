"""The demo's own worker processes, started against a given server."""

import os
import subprocess
import sys
from pathlib import Path


class ServiceProcess:
    """``python -m {name}`` with its output in ``log``; ``env`` comes on top of this process's own."""

    def __init__(self, name: str, server_url: str, log: Path, **env: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", name],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "RESONATE_URL": server_url, **env},
            )

    def runs(self, function: str, promise: str = "") -> int:
        """How often ``function`` began to run, by its log, for promises whose id starts with ``promise``."""
        marker = f"running function {function}  promise={promise}"
        return sum(line.startswith(marker) for line in self.log.read_text().splitlines())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=10)

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        self._process.terminate()
        return self._process.wait(timeout=10)
