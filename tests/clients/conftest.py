"""Every SDK at every version that the tests name, and servers with workers on them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.server import ServerProcess

from .processes import Sdk, Site
from .programs import GO_VERSION, sdk_or_skip

VERSIONS = ("0.8.1", "0.7.4")
"""Versions of the Python SDK that are tested further. 0.8.0 differs from 0.8.1 in one function only."""

EVERY = [
    *[pytest.param(("python", version), id=f"python-{version}") for version in VERSIONS],
    pytest.param(("python", "0.8.0"), id="python-0.8.0", marks=pytest.mark.long),
    pytest.param(("typescript", "0.11.5"), id="typescript-0.11.5"),
    pytest.param(("typescript", "0.11.4"), id="typescript-0.11.4", marks=pytest.mark.long),
    pytest.param(("go", GO_VERSION), id="go"),
    pytest.param(("rust", "0.6.0"), id="rust-0.6.0", marks=pytest.mark.long),  # takes minutes to build
]


@pytest.fixture(scope="session")
def sdks() -> dict[str, Sdk]:
    """The Python SDKs, by version."""
    return {version: sdk_or_skip("python", version) for version in VERSIONS}


@pytest.fixture(params=VERSIONS)
def sdk(request: pytest.FixtureRequest, sdks: dict[str, Sdk]) -> Sdk:
    return sdks[request.param]


@pytest.fixture
def other(sdk: Sdk, sdks: dict[str, Sdk]) -> Sdk:
    """The other version, for tests in which two versions call each other."""
    return next(each for each in sdks.values() if each is not sdk)


@pytest.fixture(params=EVERY)
def client(request: pytest.FixtureRequest, standing_site: Site) -> Sdk:
    """Any of the SDKs, with a standing worker."""
    sdk = sdk_or_skip(*request.param)
    standing_site.stand(sdk)
    return sdk


@pytest.fixture
def id(request: pytest.FixtureRequest) -> str:
    """A promise id that no other test uses."""
    name: str = request.node.name
    return name


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file that lets ``hold`` finish."""
    return tmp_path / "gate"


@pytest.fixture
def own_group(request: pytest.FixtureRequest) -> str:
    """A group that only this test's workers join."""
    name: str = request.node.name
    return name.translate(str.maketrans("[]", "--")).rstrip("-")


def new_site(folder: Path) -> Site:
    """A server that soon resends a task that nobody has claimed."""
    server = ServerProcess(folder / "server.log", folder / "state.sqlite", RESONATE_TASKS__RETRY_TIMEOUT="1000")
    return Site(server.start(), folder)


@pytest.fixture(scope="session")
def standing_site(tmp_path_factory: pytest.TempPathFactory, sdks: dict[str, Sdk]) -> Iterator[Site]:
    standing = new_site(tmp_path_factory.mktemp("site"))
    for sdk in sdks.values():
        standing.stand(sdk)
    yield standing
    standing.close()


@pytest.fixture
def site(standing_site: Site) -> Iterator[Site]:
    """A server with one standing worker for each Python SDK, shared by all tests."""
    yield standing_site
    print(standing_site.report())


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Site]:
    """A server without workers for this test alone."""
    own = new_site(tmp_path)
    yield own
    own.close()
    print(own.report())
