"""docs/your-own.md followed from the top by a stranger, in an empty folder."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from harness.basics import free_port, wait_until

from own.document import COMMANDS, FILES, quoted

REPOSITORY = Path(__file__).parents[2]
LOCKS = (REPOSITORY / "requirements.lock", Path(__file__).with_name("applications.requirements.lock"))
PATIENCE_SECONDS = 600
"""Packages may have to be downloaded first."""
END = "=== end ===\n"


class Terminal:
    """A shell to type into; it differs from a reader's only in the repository's path and in the ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in ("5050", "8000", "8001")}
        (folder / "bin").mkdir()
        (folder / "bin/python3").write_text(f'#!/bin/sh\nexec "{Path(sys.executable).resolve()}" "$@"\n')
        (folder / "bin/python3").chmod(0o755)
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], cwd=folder, env=self._environment(), text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        """Return the environment without the variables of this test run, and with the tested versions pinned."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "VIRTUAL"))}
        constraints = self.folder / "constraints.txt"
        pins = {pin for lock in LOCKS for pin in re.findall(r"^[\w.-]+==[^\\\n]+", lock.read_text(), re.MULTILINE)}
        constraints.write_text("\n".join(sorted(pins)))
        return kept | {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "PIP_CONSTRAINT": str(constraints),
            "PIP_NO_COMPILE": "1",  # most modules are never loaded
            "RESONATE_OBSERVABILITY__METRICS_PORT": "0",
            "RESONATE_SERVER__PORT": self.ports["8001"],
            "RESONATE_TOKEN": "",
            "RESONATE_URL": f"http://localhost:{self.ports['8001']}",
        }

    def type(self, commands: str) -> str:
        """Run the commands; return their output once all but the background ones are done."""
        assert self._shell.stdin is not None and self._shell.stdout is not None
        commands = re.sub(r"\b(5050|8000|8001)\b", lambda port: self.ports[port[0]], commands)
        commands = commands.replace("~/durable-rpc", shlex.quote(str(REPOSITORY)))
        self._shell.stdin.write(f"{commands}\necho; echo {END}")
        self._shell.stdin.flush()
        watchdog = threading.Timer(PATIENCE_SECONDS, self.close)
        watchdog.start()
        printed = ""
        for line in self._shell.stdout:
            if line == END:
                watchdog.cancel()
                return printed
            printed += line
        raise AssertionError(f"the shell is gone, it printed:\n{printed}")

    def await_programs(self) -> None:
        """Wait for the programs that are called over the network, as a person would by reading their logs."""
        for port in self.ports:
            wait_until(partial(self.listens_on, port), f"somebody listens on what is {port} in the document")

    def listens_on(self, port: str) -> bool:
        """Return whether somebody listens there. `port`: as in the document."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", int(self.ports[port])), timeout=5):
            return True
        return False

    def logs(self) -> str:
        return "".join(f"── {log.name}\n{log.read_text()}" for log in sorted((self.folder / "shop").glob("*.log")))

    def close(self) -> None:
        """Kill the shell and everything it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    print(terminal.logs())
    terminal.close()


@pytest.mark.long
@pytest.mark.skipif(find_spec("ensurepip") is None, reason="python3 -m venv needs ensurepip (Debian: python3-venv)")
def test_a_stranger_follows_the_document(terminal: Terminal) -> None:
    install, start, call, call_by_curl, kill, back_up = COMMANDS
    terminal.type(install)
    where = terminal.type(
        "python -c 'import worker, resonate_server; print(worker.__file__, resonate_server.__file__)'"
    )
    assert where.count(f"{terminal.folder}/shop/.venv/") == 2, "the wheels are used, not the sources"
    for name, code in FILES.items():
        (terminal.folder / "shop" / name).write_text(code)
    assert "1 passed" in terminal.type("pytest test_shop.py")

    terminal.type(start)
    terminal.await_programs()
    called = terminal.type(call)
    for item in ("tea", "rice", "salt"):
        assert f"{item} is paid, {item} is packed" in called
    assert '"state": "pending"' in called, "order-4 has begun"
    assert '"figs is paid, figs is packed"' in terminal.type(call_by_curl)

    killed = terminal.type(kill)
    assert "cake is paid, cake is packed1\n" in killed, "the answer, and how often it was paid"
    terminal.type(back_up)
    terminal.await_programs()
    assert '"cake is paid, cake is packed"' in terminal.type("resonate promises get order-6")

    again = "curl -s -X PUT localhost:5050/orders/7/jam"
    terminal.type(f"{again} & resonate wait order-7 --until order=suspended; kill -9 $server $web")
    wait_until(lambda: not (terminal.listens_on("8001") or terminal.listens_on("5050")), "both are dead")
    serve, _, web, _ = start.splitlines()
    terminal.type(f"{serve}\n{web}")
    terminal.await_programs()
    assert terminal.type(again).strip() == "jam is paid, jam is packed"

    terminal.type(quoted(r"(kill \$worker .*?)"))
    wait_until(lambda: not any(map(terminal.listens_on, terminal.ports)), "nobody is left")
