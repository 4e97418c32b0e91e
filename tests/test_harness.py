"""What tests share keeps them apart from each other and from the machine: ports, a network, and limited time."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from harness.basics import wait_until
from harness.network import isolated_network
from harness.postgres import WITH_TESTS, programs
from mutants.run import OPTIONS, PACKAGES

TAKE_ONE = "import sys; from harness.basics import free_port; print(free_port(), flush=True); sys.stdin.read()"
TAKE_THIS = "import sys; from harness import basics; basics._PORTS = [int(sys.argv[1])]; print(basics.free_port())"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}


def take(port: str, seconds: float) -> str:
    command = [sys.executable, "-c", TAKE_THIS, port]
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=seconds, check=True
    ).stdout.strip()


def test_a_port_belongs_to_one_process_as_long_as_that_lives() -> None:
    command = [sys.executable, "-c", TAKE_ONE]
    with subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        port = owner.stdout.readline().strip()
        with pytest.raises(subprocess.TimeoutExpired):  # it keeps looking
            take(port, 1)
        owner.communicate("")

    assert take(port, 60) == port


DIE = """
import os, signal, sys, time
from pathlib import Path
from harness.fork_server import ForkServer

server, log = ForkServer("worker"), Path(os.devnull)
first, second = (server.start([sys.argv[1]], os.environ, log) for _ in range(2))
os.kill(first.pid, signal.SIGKILL)
time.sleep(1)
print(second.pid, flush=True)
os.killpg(0, signal.SIGTERM)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this way to start programs")
def test_programs_end_with_tests_that_are_killed_before_they_have_heard_of_every_end(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import time; time.sleep(600)")
    died = subprocess.run(
        [sys.executable, "-c", DIE, program],
        start_new_session=True,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    pid = int(died.stdout)
    try:
        wait_until(lambda: not psutil.pid_exists(pid), "the other program has ended", seconds=20)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, 9)


DIE_BESIDE_POSTGRESQL = """
import os, signal
from harness.postgres import PostgresServer

server = PostgresServer()
server.start()
print(server.pid, server._folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not WITH_TESTS, reason="there is no setpriv")
def test_a_database_ends_with_tests_that_are_killed() -> None:
    programs()
    command = [sys.executable, "-c", DIE_BESIDE_POSTGRESQL]
    died = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, timeout=120, check=False)
    pid, folder = died.stdout.split()
    wait_until(lambda: not psutil.pid_exists(int(pid)), "the database has ended", seconds=60)
    shutil.rmtree(folder)


only_root = pytest.mark.skipif(
    sys.platform != "linux" or bool(os.geteuid()),
    reason="only Linux has such networks, and grants them to root alone",
)
NETWORK = Path("/proc/thread-self/ns/net")


def interfaces_of_a_child() -> list[str]:
    lines = subprocess.check_output(["cat", "/proc/net/dev"], text=True).splitlines()[2:]
    return [line.split(":")[0].strip() for line in lines]


@only_root
def test_programs_started_in_it_see_only_loopback() -> None:
    with isolated_network():
        assert interfaces_of_a_child() == ["lo"]


@only_root
def test_the_old_network_is_restored_however_it_ends() -> None:
    before = NETWORK.readlink()
    with suppress(KeyError), isolated_network():
        assert NETWORK.readlink() != before
        raise KeyError

    assert NETWORK.readlink() == before


def test_mutants_are_judged_by_tests_that_pytest_finds() -> None:
    """Nobody notices otherwise: ``scripts/mutants.sh`` is run by hand."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", *OPTIONS, *PACKAGES["engine"].tests]
    found = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
