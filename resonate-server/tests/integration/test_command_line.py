"""Starting, refusing to start, and stopping."""

import socket
import subprocess
import sys
import time
from pathlib import Path

from harness.basics import free_port, wait_until
from harness.server import Client, ServerProcess
from harness.stream import Stream


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    import os

    command = [sys.executable, "-m", "resonate_server", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env={**os.environ, **env}, check=False)


def test_a_taken_port_stops_the_start_with_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("dev", "--port", str(taken.getsockname()[1]))

    assert result.returncode == 2
    assert "cannot listen on 127.0.0.1" in result.stderr
    assert "Traceback" not in result.stderr


def test_servers_that_share_a_port_all_get_connections(tmp_path: Path) -> None:
    shared = {"RESONATE_SERVER__SHARED_PORT": "true"}
    first = ServerProcess(tmp_path / "first.log", None, None, **shared).start()
    second = ServerProcess(tmp_path / "second.log", None, first.port, **shared)
    second.launch()
    first.client().create("of the first")

    def statuses() -> set[int]:
        return {Client(first.port).call("promise.get", id="of the first").status for _ in range(20)}

    wait_until(lambda: statuses() == {200, 404}, "both are asked")
    for server in (first, second):
        server.stop()


def test_a_second_server_on_the_same_file_is_refused(tmp_path: Path) -> None:
    first = ServerProcess(tmp_path / "log", tmp_path / "state.db").start()
    result = run("serve", "--db", str(tmp_path / "state.db"), "--port", str(free_port()))
    first.stop()
    assert result.returncode == 2
    assert "in use by another server" in result.stderr


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("something else, long enough to be looked at" * 100)
    result = run("serve", "--db", str(tmp_path / "state.db"), "--port", str(free_port()))
    assert result.returncode == 2
    assert "not a database" in result.stderr


def test_sigterm_ends_streams_and_process_cleanly_within_a_second(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "log", tmp_path / "state.db").start()
    stream = Stream(server.port, "g", "w")
    began = time.monotonic()
    status = server.stop()
    took = time.monotonic() - began

    assert status == 0
    assert took < 10, f"{took:.1f} s, on a busy machine"
    assert not _has_more(stream)
    assert "Traceback" not in server.log.read_text()


def _has_more(stream: Stream) -> bool:
    try:
        stream.message(1)
    except EOFError:
        return False
    return True
