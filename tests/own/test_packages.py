"""What the wheels of the server and the worker contain for users who have nothing else."""

import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["resonate-server", "worker"])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A freshly built wheel."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=REPOSITORY / request.param, capture_output=True, timeout=120, check=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def read(wheel: zipfile.ZipFile, ending: str) -> str:
    """Read the only file whose name ends like this."""
    (name,) = [name for name in wheel.namelist() if name.endswith(ending)]
    return wheel.read(name).decode()


def metadata(wheel: zipfile.ZipFile) -> Message:
    return Parser().parsestr(read(wheel, ".dist-info/METADATA"))


def test_a_wheel_carries_the_licence_of_the_repository(wheel: zipfile.ZipFile) -> None:
    assert metadata(wheel)["License-Expression"] == "Apache-2.0"
    assert read(wheel, ".dist-info/licenses/LICENSE") == (REPOSITORY / "LICENSE").read_text()


def test_a_wheel_describes_itself(wheel: zipfile.ZipFile) -> None:
    told = metadata(wheel)

    assert told["Summary"]
    assert told["Description-Content-Type"] == "text/markdown"
    assert str(told.get_payload()).strip().startswith(f"# {told['Name']}\n")
    assert "](" not in str(told.get_payload()).replace("](https://", ""), "links into the repository"


def test_a_wheel_pins_its_dependencies_and_needs_nothing_else_from_this_repository(wheel: zipfile.ZipFile) -> None:
    needed = metadata(wheel).get_all("Requires-Dist", [])

    assert [each for each in needed if "==" not in each or each.startswith("demo-")] == []


def test_a_wheel_has_types(wheel: zipfile.ZipFile) -> None:
    assert read(wheel, "/py.typed") == ""
