"""Checkouts of this repository in folders of their own, on machines where commands or services are missing or taken."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from harness.basics import REPOSITORY, free_port

SECONDS = 300
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
FULL_DISK = "trap '' XFSZ; ulimit -f 0"
"""In bash: from now on no file can grow."""

_FOR_SCRIPTS = re.compile(r"[^/]+|(scripts|services|\.ci)/.*|.*/pyproject\.toml|worker/src/worker/health\.py")
"""What scripts read that build nothing and start nothing: one file in eight."""

# Variables of the user who runs the tests, and of the stacks of other tests.
_OURS = re.compile(r"COMPOSE_|STACK_DIR|FOO_PORT|RESONATE_|LEASE_SECONDS|DEMO_FAULTS|PYTHON_IMAGE|CDPATH")

# What up.sh and down.sh expect of an engine: it has the base image and no containers; it cannot build.
_ENGINE = {
    "version *": "echo 26.1.5",
    "compose version": ":",
    "compose config *": ":",
    "buildx version": ":",
    "image inspect *": ":",
    "volume inspect *": "exit 1",
    "compose build": "echo no builder here >&2; exit 1",
    "*": ":",
}


def engine(answers: dict[str, str] | None = None) -> dict[str, str]:
    """Return bash commands by patterns of `docker` arguments; the given ones take precedence."""
    return (answers or {}) | {words: action for words, action in _ENGINE.items() if words not in (answers or {})}


@cache
def _files() -> list[str]:
    listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=REPOSITORY, text=True)
    return [name for name in listed.split("\0") if (REPOSITORY / name).is_file()]


class Checkout:
    """A folder with the repository's current files, without those that git ignores; its scripts run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def make(cls, folder: Path, *, whole: bool = False) -> "Checkout":
        """``whole``: with everything that a stack is made of."""
        for name in _files():
            if not whole and not _FOR_SCRIPTS.fullmatch(name):
                continue
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
        return cls(folder)

    def copied(self, folder: Path) -> "Checkout":
        return Checkout(Path(shutil.copytree(self.folder, folder, symlinks=True)))

    def moved(self, folder: Path) -> "Checkout":
        return Checkout(self.folder.rename(folder))

    def share_uv(self) -> None:
        """Spare it getting a uv of its own."""
        if (REPOSITORY / ".local/uv").exists():
            (self.folder / ".local").mkdir()
            (self.folder / ".local/uv").symlink_to(REPOSITORY / ".local/uv")

    @property
    def env(self) -> str:
        return (self.folder / ".env").read_text()

    @property
    def name(self) -> str:
        return self.noted("COMPOSE_PROJECT_NAME")

    def noted(self, name: str) -> str:
        """Return the value that `.env` has for the name."""
        found = re.search(rf"^{name}=(\S+)", self.env, re.MULTILINE)
        assert found, self.env
        return found[1]

    def add_to_env(self, text: str) -> None:
        with (self.folder / ".env").open("a") as file:
            file.write(text)

    def run(self, *command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run_in(self.folder, *command, **env)

    def run_in(self, folder: Path, *command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
        return subprocess.run(
            command,
            cwd=folder,
            env=inherited | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def succeed(self, *command: str | Path, **env: str) -> str:
        done = self.run(*command, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def begin_process(self, service: str, name: str) -> subprocess.Popen[bytes]:
        """Start an idle process that looks like one of the stack with that name."""
        python = self.folder / ".venv/bin/python"
        if not python.exists():
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)
        mark = f"durable-rpc-stack={name}/{service}"
        idle = "import time; print('up', flush=True); time.sleep(600)"
        process = subprocess.Popen(
            [python, "-X", mark, "-P", "-c", idle], stdout=subprocess.PIPE, start_new_session=True, cwd="/"
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process


def free_ports() -> dict[str, str]:
    return {"FOO_PORT": str(free_port()), "RESONATE_PORT": str(free_port())}


def tools(folder: Path, *, without: str = "", docker: dict[str, str] | None = None) -> str:
    """Return a PATH with every command of this machine except `without`, and a fake `docker`: see :func:`engine`."""
    folder.mkdir()
    path = os.environ["PATH"]
    if without:
        commands = [command for place in path.split(os.pathsep) for command in Path(place).glob("*")]
        for name, command in {each.name: each for each in reversed(commands)}.items():  # the first of a name wins
            if name not in (without, "docker"):
                (folder / name).symlink_to(command)
    if docker is not None:
        cases = "\n".join(f"{_pattern(words)}) {action} ;;" for words, action in docker.items())
        (folder / "docker").write_text(f'#!/bin/bash -p\ncase "$*" in\n{cases}\nesac\n')
        (folder / "docker").chmod(0o755)
    return str(folder) if without else f"{folder}{os.pathsep}{path}"


def _pattern(words: str) -> str:
    return "*".join(shlex.quote(part) if part else "" for part in words.split("*"))
