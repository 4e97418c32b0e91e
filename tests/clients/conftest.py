"""Both versions of the SDK, and servers with workers of both."""

import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.server import ServerProcess

from .processes import Sdk, Site, own_python

ROOT = Path(__file__).parents[2]
VERSIONS = ("0.8.1", "0.7.4")


@pytest.fixture(scope="session")
def sdks() -> dict[str, Sdk]:
    """By version. The older one is installed from its lock file where it is not there yet."""
    pythons = {"0.8.1": own_python(), "0.7.4": older_python()}
    return {version: Sdk(version, python) for version, python in pythons.items()}


def older_python() -> Path:
    """That of an environment with the older SDK, which only one run of the tests makes at a time."""
    folder, lock = ROOT / ".local/sdk-0.7", Path(__file__).parent / "sdk-0.7.requirements.lock"
    python, note = folder / "bin/python", folder / ".installed"
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not note.exists() or note.read_text() != lock.read_text():
            env = {"UV_SYSTEM_CERTS": "true"} | os.environ
            uv = subprocess.check_output(["scripts/venv.sh", "--uv"], cwd=ROOT, text=True).strip()
            subprocess.run([uv, "venv", "--quiet", "--clear", "--python", own_python(), folder], env=env, check=True)
            sync = (uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(lock))
            subprocess.run(sync, env=env, check=True)
            note.write_text(lock.read_text())
    return python


@pytest.fixture(params=VERSIONS)
def sdk(request: pytest.FixtureRequest, sdks: dict[str, Sdk]) -> Sdk:
    return sdks[request.param]


@pytest.fixture(params=VERSIONS)
def other(request: pytest.FixtureRequest, sdks: dict[str, Sdk]) -> Sdk:
    """A second version, for tests of one with the other."""
    return sdks[request.param]


@pytest.fixture
def id(request: pytest.FixtureRequest) -> str:
    """A promise id that no other test uses."""
    name: str = request.node.name
    return name


@pytest.fixture
def own_group(request: pytest.FixtureRequest, sdk: Sdk) -> str:
    """A group that only this test's workers join."""
    return f"{request.function.__name__}-{sdk.version}"


@pytest.fixture(scope="session")
def standing_site(tmp_path_factory: pytest.TempPathFactory, sdks: dict[str, Sdk]) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    standing = Site(ServerProcess(folder / "server.log", folder / "state.sqlite").start(), folder)
    for sdk in sdks.values():
        standing.worker(sdk)
    yield standing
    standing.close()


@pytest.fixture
def site(standing_site: Site) -> Iterator[Site]:
    """A server with one worker of each version beside each other, shared by all tests."""
    yield standing_site
    print(standing_site.report())


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Site]:
    """A server of this test's own, without workers. It offers a task again soon if nobody has claimed it."""
    server = ServerProcess(tmp_path / "server.log", tmp_path / "state.sqlite", RESONATE_TASKS__RETRY_TIMEOUT="1000")
    own = Site(server.start(), tmp_path)
    yield own
    own.close()
    print(own.report())
