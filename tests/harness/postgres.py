"""A PostgreSQL server for tests: on a free port, in a temporary folder, run by any user."""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.basics import free_port, wait_until

INSTALLED = Path("/usr/lib/postgresql")
"""Where Debian installs it, by version."""

WITH_TESTS = ["setpriv", "--pdeathsig", "QUIT"] if shutil.which("setpriv") else []
"""Begins the command of a program that shuts down at once if the tests are killed. Linux alone has it."""

UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root."""


class PostgresServer:
    """``options``: server settings by name. ``template``: where the first such server leaves its empty data for the
    others, because initdb computes for most of a second. Call :meth:`start` to start and :meth:`remove` to delete it.
    """

    def __init__(self, template: Path | None = None, **options: str) -> None:
        self.port = free_port()
        self._bin = programs()
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self._folder), **options}
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self._folder, UNPRIVILEGED)
            self._user = {"user": UNPRIVILEGED, "group": "nogroup", "extra_groups": []}
        if template is None:
            self._initialise()
        else:
            self._initialise_from(template)

    def _initialise_from(self, template: Path) -> None:
        with template.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not template.exists():
                self._initialise()
                _copy(self._data, coming := template.with_suffix(".new"))
                coming.rename(template)
                return
        _copy(template, self._data)

    def _initialise(self) -> None:
        data = ["--pgdata", str(self._data), "--username", "resonate", "--auth", "trust", "--encoding", "UTF8"]
        self._run("initdb", *data, "--locale", "C", "--no-sync")

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://resonate@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Create a database and return its URL."""
        self._run("createdb", "--host", "127.0.0.1", "--port", str(self.port), "--username", "resonate", database)
        return self.url_of(database)

    @property
    def pid(self) -> int:
        """The pid of the postmaster, whose children do the work."""
        return self._process.pid

    def start(self) -> None:
        """Return once it answers. After a :meth:`kill`, retry until the old server's remains have ended."""
        settings = [f"--{name}={value}" for name, value in self._options.items()]
        wait_until(lambda: self._launch(settings), "PostgreSQL answers", every=0.2)

    def _launch(self, settings: list[str]) -> bool:
        with (self._folder / "log").open("ab") as log:
            command = [*WITH_TESTS, str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **self._user)
        while self._process.poll() is None:
            if self._answers():
                return True
            time.sleep(0.05)
        return False

    def _answers(self) -> bool:
        command = [str(self._bin / "pg_isready"), "--quiet", "--host", "127.0.0.1", "--port", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def kill(self) -> None:
        """Send SIGKILL to the postmaster and its children: no checkpoint, no shutdown."""
        children = psutil.Process(self.pid).children() if self._process.poll() is None else []
        self._process.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self._process.wait()

    def stop(self) -> None:
        """Shut down fast but cleanly."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=60)

    def remove(self) -> None:
        with suppress(ProcessLookupError):
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **self._user)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-Rp", source, target], check=True)


def programs() -> Path:
    """Return the program folder of the newest installed version; skip the test if there is none."""
    found = sorted(INSTALLED.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    lack = "there is no PostgreSQL (Debian's package is postgresql)"
    if os.environ.get("REQUIRE_POSTGRES") == "1":
        pytest.fail(f"REQUIRE_POSTGRES=1, but {lack}")
    pytest.skip(lack)
