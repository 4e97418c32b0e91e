"""The whole stack from a checkout in an awkward place, one made with other settings, or one copied as a whole."""

import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stack.checkouts import Checkout, free_ports
from stack.conftest import require_docker
from stack.driver import SERVICES, ask_server

pytestmark = pytest.mark.long

# Python settings that a user's shell may have; the folder contains a module `worker` that is not ours.
PYTHON = {
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PIP_USER": "1",
    "PIP_PREFIX": "/nowhere",
    "PYTHONWARNINGS": "error",
    "UV_PYTHON": "3.8",
    "UV_PROJECT_ENVIRONMENT": "/nowhere",
    "UV_NO_BUILD": "1",
}


@pytest.fixture(scope="module")
def checkout(awkward_folder: Path) -> Iterator[Checkout]:
    """A checkout with umask 077 whose files, except scripts, end lines with CR LF, as some git settings do."""
    require_docker()
    checkout = Checkout.make(awkward_folder / "containers", whole=True)
    for path in sorted(checkout.folder.rglob("*")):
        if path.is_file() and path.suffix not in (".sh", ".png", ".webp"):
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
        path.chmod(0o700 if path.is_dir() or path.suffix == ".sh" else 0o600)
    yield checkout
    checkout.run("docker", "compose", "down", "--volumes", "--rmi", "local")


@pytest.fixture(scope="module")
def ports() -> dict[str, str]:
    return free_ports()


class TestProcesses:
    def test_the_stack_runs_although_its_environment_was_copied_tests_deleted_and_python_set_up_oddly(
        self, copy: Checkout, ports: dict[str, str], tmp_path: Path
    ) -> None:
        """Two scripts may recreate the environment at the same time."""
        for folder in ("bench", "tests"):  # as docs/your-own.md allows
            shutil.rmtree(copy.folder / folder)
        (tmp_path / "worker.py").write_text("raise SystemExit('not ours')\n")
        env = ports | PYTHON | {"PYTHONPATH": str(tmp_path)}
        noted_there = copy.folder / ".env"
        noted_there.write_text("# mine\nPYTHON_IMAGE=mine\n")
        with ThreadPoolExecutor() as threads:
            both = [threads.submit(copy.run, "scripts/venv.sh", **env) for _ in range(2)]
        assert [each.result().returncode for each in both] == [0, 0], [each.result().stderr for each in both]
        script = "import worker, bar, resonate_server as s; print(worker.__file__, bar.__file__, s.__file__, sep='\\n')"
        loaded = copy.succeed(copy.folder / ".venv/bin/python", "-c", script).splitlines()
        assert [file.startswith(f"{copy.folder}/") for file in loaded] == [True] * 3

        try:
            said = copy.succeed("scripts/up.sh", "--processes", "--token", **env)
            assert '"message":3' in said
            assert f"The stack {copy.name} is up" in said
            [token] = re.findall(r"^RESONATE_TOKEN=(\w+) # by scripts/up.sh$", copy.env, re.MULTILINE)
            assert [ask_server(ports["RESONATE_PORT"], each) for each in ("", token)] == [401, 200]
            assert stat.S_IMODE(noted_there.stat().st_mode) == 0o600
            assert noted_there.read_text().startswith("# mine\nPYTHON_IMAGE=mine\n")
            assert len(token) >= 32
            assert "baz ran exactly once" in copy.succeed("scripts/crash-bar.sh", "--pause", "3", "--down", "1")
            assert "result: 3" in copy.succeed("scripts/watch.sh")
        finally:
            said = copy.succeed("scripts/down.sh", "--volumes")
        assert "stopping the processes" in said


class TestContainers:
    @pytest.fixture
    def up(self, checkout: Checkout, ports: dict[str, str]) -> Iterator[Checkout]:
        try:
            checkout.succeed("scripts/up.sh", "--docker", **ports)
            yield checkout
        finally:
            checkout.run("scripts/down.sh", "--volumes")

    def test_it_runs_and_compose_by_hand_sees_the_same_stack(self, up: Checkout) -> None:
        shown = up.succeed("docker", "compose", "ps", "--format", "{{.Project}} {{.Service}} {{.Health}}")
        assert sorted(shown.split("\n")[:4]) == sorted(f"{up.name} {service} healthy" for service in SERVICES)
        assert '"message":3' in up.succeed("scripts/trigger.sh")
        assert "Draw the calls" in up.succeed(
            "docker", "compose", "exec", "-T", "resonate-server", "resonate", "--help"
        )

    @pytest.mark.parametrize("how", ["broken", "lost, and through a symlink"])
    def test_down_finds_it_whatever_has_become_of_env(self, up: Checkout, tmp_path: Path, how: str) -> None:
        name, env = up.name, up.folder / ".env"
        kept = env.read_text()
        (tmp_path / "link").symlink_to(up.folder)
        if how == "broken":
            up.add_to_env("some/python:3.13\n")
        else:
            env.unlink()
        folder = up.folder if how == "broken" else tmp_path / "link"
        said = up.succeed(folder / "scripts/down.sh", "--volumes")
        env.write_text(kept)

        assert "stopping the containers" in said
        assert left_of(name) == ""


def left_of(name: str) -> str:
    label = f"label=com.docker.compose.project={name}"
    listed = [["ps", "-a"], ["volume", "ls"], ["network", "ls"]]
    return "".join(subprocess.check_output(["docker", *what, "-q", "--filter", label], text=True) for what in listed)
