"""Images hold compiled modules without symbols: they are smaller and work all the same."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

STRIP = Path(__file__).parents[2] / "scripts" / "strip_symbols.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="images hold ELF files, this system has others")


def strip(folder: Path) -> None:
    subprocess.run([sys.executable, STRIP, folder], check=True, stdout=subprocess.DEVNULL)


def test_a_module_is_smaller_by_far_and_works_all_the_same(tmp_path: Path) -> None:
    assert uvloop.__file__ is not None
    copied = Path(shutil.copytree(Path(uvloop.__file__).parent, tmp_path / "uvloop"))
    (module,) = copied.glob("loop*.so")
    before = module.stat().st_size
    strip(tmp_path)
    program = f"""
import asyncio, sys
sys.path.insert(0, {str(tmp_path)!r})
import uvloop
assert uvloop.__file__.startswith({str(tmp_path)!r})
print(asyncio.run(asyncio.sleep(0.01, "ran"), loop_factory=uvloop.new_event_loop))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "ran\n"
    assert module.stat().st_size < before / 2


def test_what_is_stripped_twice_stays_as_it_is(tmp_path: Path) -> None:
    assert uvloop.__file__ is not None
    (source,) = Path(uvloop.__file__).parent.glob("loop*.so")
    module = tmp_path / source.name
    shutil.copy(source, module)
    strip(tmp_path)
    once = module.read_bytes()
    strip(tmp_path)

    assert module.read_bytes() == once


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\x01\x01" + bytes(100), b"not a module at all " * 10])
def test_anything_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.so").write_bytes(content)
    strip(tmp_path)

    assert (tmp_path / "other.so").read_bytes() == content
