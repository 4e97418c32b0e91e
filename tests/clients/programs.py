"""The same program on every SDK and version that the tests name, built once into .local/clients."""

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from msgspec import Struct

from .processes import Sdk

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

TOOLS = {"python": "bash", "typescript": "npm", "go": "go", "rust": "cargo"}
"""The tool that builds a program in that language."""

GO_VERSION = "v0.0.0-20260617195620-152de9b5bc17"
"""The only version that its authors have published so far."""

NICE = ("nice", "-n", "10")
"""Leaves the machine to the tests that run beside the compiler."""


class Lack(Struct, frozen=True):
    """Why a program on an SDK cannot be built: this machine lacks the tool."""

    reason: str


class Failure(Lack, frozen=True):
    """The tool exists, but failed."""


def sdk_or_skip(language: str, version: str) -> Sdk:
    """Return an SDK whose program is built, or skip. REQUIRE_CLIENTS=1 demands all for which there are tools."""
    found = _program(language, version)
    if isinstance(found, Sdk):
        return found
    if isinstance(found, Failure) and os.environ.get("REQUIRE_CLIENTS") == "1":
        pytest.fail(f"REQUIRE_CLIENTS=1, but {found.reason}")
    pytest.skip(f"the SDK for {language} {version}: {found.reason}")


@cache
def _program(language: str, version: str) -> Sdk | Lack:
    tool = TOOLS[language]
    if shutil.which(tool) is None:
        return Lack(f"there is no {tool}")
    try:
        return Sdk(language, version, MAKERS[language](version))
    except subprocess.CalledProcessError as error:
        return Failure(f"{error}\n{error.stderr}")


def _python(version: str) -> tuple[str, ...]:
    return str(sys.executable if version == "0.8.1" else _older_python(version)), "-I", str(HERE / "program.py")


def _older_python(version: str) -> Path:
    """The interpreter of an environment that has this SDK, and all else from the tests' own environment."""

    def make(folder: Path) -> None:
        uv = _run(ROOT, "scripts/venv.sh", "--uv").strip()
        _run(folder, uv, "venv", "--quiet", "--clear", "--python", sys.executable, "venv")
        install = (uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", "venv/bin/python")
        _run(folder, *install, "--requirements", lock.name)
        (packages,) = (folder / "venv/lib").glob("python*/site-packages")
        (packages / "others.pth").write_text(sysconfig.get_path("purelib"))  # searched after the packages beside it

    lock = HERE / f"sdk-{version}.requirements.lock"
    return _made(f"python-{version}", [lock], make) / "venv/bin/python"


def _typescript(version: str) -> tuple[str, ...]:
    def make(folder: Path) -> None:
        _run(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")

    return "node", str(_made("typescript", _sources("typescript"), make) / "program.mjs"), version


def _go(_version: str) -> tuple[str, ...]:
    def make(folder: Path) -> None:
        _run(folder, *NICE, "go", "build", "-mod=readonly", "-p", "2", "-o", "program", ".")

    return (str(_made("go", _sources("go"), make) / "program"),)


def _rust(_version: str) -> tuple[str, ...]:
    """Dependencies take minutes to build, so they are built once for all checkouts of a user, in the user's cache."""
    built = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "durable-rpc-demo/rust"

    def make(folder: Path) -> None:
        _run(folder, *NICE, "cargo", "build", "--quiet", "--jobs", "2", "--target-dir", str(built))
        shutil.copy(built / "debug/program", folder)

    return (str(_made("rust", _sources("rust"), make) / "program"),)


MAKERS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "python": _python,
    "typescript": _typescript,
    "go": _go,
    "rust": _rust,
}


def _sources(folder: str) -> list[Path]:
    return sorted(path for path in (HERE / folder).iterdir() if path.is_file())


def _made(name: str, sources: list[Path], make: Callable[[Path], None]) -> Path:
    """Copy the sources to a folder and run ``make`` there if they have changed; one test run at a time does so."""
    folder = ROOT / ".local/clients" / name
    folder.mkdir(parents=True, exist_ok=True)
    note, wanted = folder / ".made-from", "".join(path.read_text() for path in sources)
    with (folder / ".guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not note.exists() or note.read_text() != wanted:
            for path in sources:
                shutil.copy(path, folder)
            make(folder)
            note.write_text(wanted)
    return folder


def _run(folder: Path, *command: str) -> str:
    env = {"UV_SYSTEM_CERTS": "true", "HOME": str(Path.home())} | os.environ
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout
