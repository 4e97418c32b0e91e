"""Ports: no two stacks share one, and whatever answers at a stack's port is the stack's own process."""

import contextlib
import fcntl
import functools
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import override

import processes
import pytest
from harness.basics import REPOSITORY, free_port, wait_until
from harness.http import Handler, serving

from stack.checkouts import AS_NOBODY, Checkout, engine, free_ports, tools
from stack.driver import PROCESSES, Answer, Stack, new_id

PYTHON_OF_ALL = Path("/usr/bin/python3")
NOBODY = (*AS_NOBODY, PYTHON_OF_ALL)


@contextlib.contextmanager
def listener(port: int, **options: bool) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", port), **options):
        yield


def listener_once_free(port: int) -> contextlib.ExitStack:
    """Return a listener as soon as the port is free: a killed process releases it a moment later."""
    with contextlib.ExitStack() as held:

        def is_held() -> bool:
            with contextlib.suppress(OSError):
                held.enter_context(listener(port))
                return True
            return False

        wait_until(is_held, f"port {port} is free")
        return held.pop_all()


def test_a_port_that_is_taken_while_somebody_waits_to_hold_it_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the other stack's server listens there, and its script ends."""
    ports, first = processes.ports(), free_port()
    with contextlib.ExitStack() as taken:

        def hold(_: list[int]) -> bool:
            monkeypatch.undo()
            taken.enter_context(listener(first))
            return True

        monkeypatch.setattr(ports, "hold", hold)
        assert ports.next_free(first, but=()) > first


class Ready(Handler):
    """Looks like the server of another stack."""

    @override
    def respond(self) -> None:
        self.answer(200)


def hold(*ports: int) -> subprocess.Popen[str]:
    return subprocess.Popen([*PROCESSES, "hold", *map(str, ports)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


@contextlib.contextmanager
def held(*ports: int) -> Iterator[None]:
    holder = hold(*ports)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        yield
    finally:
        holder.stdout.close()
        holder.wait(timeout=60)


class TestHolding:
    """Holding a port from its choice until the stack listens on it."""

    def test_a_port_that_one_holds_is_refused_to_others(self) -> None:
        port = free_port()
        with held(free_port(), port):
            told, _ = hold(port, free_port()).communicate(timeout=60)

        assert told == f"{port}\n"

    def test_it_is_released_when_its_reader_goes_away(self) -> None:
        port = free_port()
        for _ in range(2):
            with held(port):
                pass

    def test_two_stacks_that_start_at_once_choose_different_ports_and_say_which(self, tmp_path: Path) -> None:
        """The engine's build waits until both have chosen."""
        checkouts = [Checkout.make(tmp_path / name) for name in ("one", "two")]
        both = " && ".join(f"[ -s '{checkout.folder}/.env' ]" for checkout in checkouts)
        build = f"until {both}; do sleep 0.1; done; echo no builder here >&2; exit 1"
        path = tools(tmp_path / "tools", docker=engine({"compose build": build}))
        ports = free_ports()
        with ThreadPoolExecutor() as threads:
            command = ("scripts/up.sh", "--docker", "--ports", "auto")
            both_runs = [threads.submit(checkout.run, *command, PATH=path, **ports) for checkout in checkouts]
            said = [run.result().stderr for run in both_runs]

        assert ["no builder here" in text for text in said] == [True, True], said
        moved = [number for number in (0, 1) if "FOO_PORT" in checkouts[number].env]
        assert len(moved) == 1, said
        noted = {name: checkouts[moved[0]].noted(name) for name in ports}
        assert f"Using {noted['FOO_PORT']} for foo and " in said[moved[0]]
        assert [name for name in ports if noted[name] == ports[name]] == []

    @pytest.mark.parametrize(("script", "without"), [("up.sh --docker --ports auto", "flock"), ("down.sh", "")])
    def test_a_script_waits_for_an_up_in_its_checkout_that_would_go_on_starting_the_stack(
        self, tmp_path: Path, script: str, without: str
    ) -> None:
        """The second up.sh finds what the first has chosen. A Mac has no flock."""
        checkout = Checkout.make(tmp_path / "checkout")
        build = f"until [ -e '{tmp_path}/go' ]; do sleep 0.1; done; echo no builder here >&2; exit 1"
        path = tools(tmp_path / "tools", without=without, docker=engine({"compose build": build}))
        ports = free_ports()
        first, second = tmp_path / "first", tmp_path / "second"

        def has_said(log: Path, text: str) -> bool:
            return log.exists() and text in log.read_text()

        with ThreadPoolExecutor() as threads:
            for log, command, text in (
                (first, "up.sh --docker --ports auto", "building the images"),
                (second, script, "starts or stops this stack; waiting for it"),
            ):
                threads.submit(checkout.run, "bash", "-c", f"exec scripts/{command} 2>'{log}'", PATH=path, **ports)
                wait_until(functools.partial(has_said, log, text), f"{log.name}: {text}")
            env = checkout.env
            (tmp_path / "go").touch()

        assert "no builder here" in first.read_text()
        assert re.search(r"process \d+, starts (.|\n)*(no builder here|The stack is down)", second.read_text())
        assert checkout.env == env
        assert "FOO_PORT" not in env

    def test_a_script_says_for_which_one_it_has_waited_in_vain(self, tmp_path: Path) -> None:
        alone = f"alone '{tmp_path}/lock' 'starts this stack' 1"
        lines = f'. scripts/lib.sh; {alone}; (exec 8>&-; bash -c ". scripts/lib.sh; {alone}")'
        done = subprocess.run(
            ["bash", "-c", lines], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
        )

        assert done.returncode == 1
        found = re.search(r"process (\d+), starts this stack; waiting for it, at most 1 s", done.stderr)
        assert found, done.stderr
        assert f"process {found[1]} has not ended within 1 s; end it first." in done.stderr


class TestOwnProcess:
    def test_an_impostor_on_a_dead_server_s_port_is_recognised(self, stack: Stack) -> None:
        stack.kill("resonate-server")
        listener_once_free(stack.server_port).close()
        with serving(Ready, stack.server_port):
            assert stack.run(*PROCESSES, "healthy", "resonate-server").returncode == 1
            started = stack.run(*PROCESSES, "start", "resonate-server")

        assert started.returncode == 1
        assert f"port {stack.server_port} is taken by another program" in started.stderr


class TestMoment:
    """Seen only on busy machines: a process that has no name yet, or has lost it but not yet its port."""

    def test_start_waits_until_others_see_the_process(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        process = processes.Process(1, 0, 1, 0, processes.STACK, "bar", "python")
        listed = iter([[], [], [], [process]])
        monkeypatch.setattr(processes, "FOLDER", tmp_path)
        monkeypatch.setattr(processes, "settings", dict)
        monkeypatch.setattr(processes, "environment", lambda *_: {})
        monkeypatch.setattr(processes, "every_process", lambda *_: next(listed))
        monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: SimpleNamespace(poll=lambda: None))
        processes.start("bar")

        assert next(listed, None) is None

    def test_stop_waits_only_once_for_a_process_that_does_not_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It may belong to another user, and there are three rounds: workers, server, database."""
        process = processes.Process(1, 0, 1, os.getuid(), processes.STACK, "bar", "python")
        waited: list[str] = []
        monkeypatch.setattr(processes, "every_process", lambda *_: [process])
        monkeypatch.setattr(processes, "finish", waited.extend)
        with pytest.raises(SystemExit, match="bar could not be stopped"):
            processes.stop()

        assert waited == ["bar"]

    def test_a_process_that_is_ending_is_no_intruder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        heard = iter([{processes.SOMEBODY_ELSE}, set[str]()])
        monkeypatch.setattr(processes, "port_of", lambda _: "1")
        monkeypatch.setattr(processes, "listening", lambda _: next(heard))

        assert processes.intruder("foo") == ""

    def test_kill_waits_until_the_process_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        dying = processes.Process(1, 0, 1, 0, processes.STACK, "foo", "python")
        listed = iter([[dying], [dying], [dying], []])
        monkeypatch.setattr(processes, "every_process", lambda *_: next(listed))
        monkeypatch.setattr(os, "kill", lambda *_: None)
        processes.kill("foo")

        assert next(listed, None) is None


class TestMetrics:
    @pytest.mark.parametrize("is_held", [True, False], ids=["by one that starts", "by one that listens"])
    def test_a_server_that_comes_back_takes_another_port_if_its_own_is_taken(self, stack: Stack, is_held: bool) -> None:
        assert stack.post(id := new_id()) == Answer(200, id, 3)
        first = stack.run(*PROCESSES, "metrics").stdout.strip()
        assert "resonate_" in subprocess.check_output(["curl", "--silent", "--noproxy", "*", first], text=True)

        stack.run(*PROCESSES, "kill", "resonate-server")
        port = int(first.split(":")[2].split("/")[0])
        with held(port) if is_held else listener_once_free(port):
            stack.run(*PROCESSES, "start", "resonate-server")
            stack.assert_whole()
            second = stack.run(*PROCESSES, "metrics").stdout.strip()

        assert second not in (first, "none")


@pytest.mark.skipif(os.geteuid() != 0 or not PYTHON_OF_ALL.exists(), reason="only root can be two users")
class TestUsers:
    def nobody_holds(self, port: int) -> str:
        """Return what another user is told who wants to hold the port."""
        hold = (REPOSITORY / "scripts/ports.py").read_text() + f"hold_for_reader([{port}])"
        with subprocess.Popen([*NOBODY, "-c", hold], stdout=subprocess.PIPE, text=True, cwd="/") as holder:
            assert holder.stdout is not None
            told = holder.stdout.readline()
            holder.stdout.close()
        return told

    def test_no_user_keeps_another_from_a_port(self) -> None:
        """Two that start at the same moment learn of each other when they bind it."""
        port = free_port()
        lock_all = "import fcntl, glob, sys; files = [open(file, 'r+') for file in glob.glob('/tmp/durable-rpc*ports')]"
        lock_all += (
            "; [fcntl.lockf(file, fcntl.LOCK_EX) for file in files]; print('locked', flush=True); sys.stdin.read()"
        )
        with held(port):
            assert self.nobody_holds(port) == "held\n"
        with subprocess.Popen([*NOBODY, "-c", lock_all], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hostile:
            assert hostile.stdout is not None
            hostile.stdout.readline()
            with held(port):
                pass

    def test_a_file_that_another_user_made_in_its_place_is_not_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its owner may lock it at any time."""
        file = tmp_path / "ports"
        file.touch()
        os.chown(file, 65_534, -1)
        monkeypatch.setenv("PORTS_FILE", str(file))
        with file.open("r+") as opened:
            fcntl.lockf(opened, fcntl.LOCK_EX)
            with held(free_port()):
                pass

    def test_a_port_that_only_root_may_bind_is_not_taken(self) -> None:
        """Docker's engine may bind it for any user."""
        assert self.nobody_holds(81) == "held\n"
