"""The requests that the documents tell readers to send to a running stack."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from .programs import Stack

REPOSITORY = Path(__file__).parents[2]
FOO = "localhost:5000"

_text = "\n".join((REPOSITORY / name).read_text() for name in ("README.md", "docs/try.md"))
CURLS = [
    (first or second).strip() for first, second in re.findall(r"`(curl [^`]*)`|^ {4}(curl .*)$", _text, re.MULTILINE)
]


def test_each_curl_command_gets_an_answer(running: Stack) -> None:
    """They run in order, because the last one asks for a result that an earlier one started."""
    assert len(CURLS) == 5
    for command in CURLS:
        assert FOO in command
        words = shlex.split(command.replace(FOO, f"localhost:{running.foo_port}"), comments=True)
        done = subprocess.run(
            [*words, "--fail", "--silent", "--noproxy", "*"], capture_output=True, text=True, timeout=60, check=False
        )

        assert (done.returncode, '"id"' in done.stdout) == (0, True), f"{command}: {done.stdout} {done.stderr}"


def test_the_program_in_the_readme_calls_foo(running: Stack, tmp_path: Path) -> None:
    block = re.search(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    assert block is not None
    program = tmp_path / "call.py"
    program.write_text(block[1])
    environment = {**os.environ, "RESONATE_URL": f"http://localhost:{running.server_port}"}

    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr
