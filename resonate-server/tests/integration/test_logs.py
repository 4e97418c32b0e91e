"""The log of a running server: text from strangers stays within one line."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from harness.basics import wait_until
from harness.server import ServerProcess
from harness.stream import Stream

FORGED = "\n12:00:00 INFO forged\x1b[2K\u2028\u202e"


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_worker_s_group_and_id_cannot_forge_lines(tmp_path: Path, style: str) -> None:
    server = ServerProcess(tmp_path / "log", RESONATE_LOG_FORMAT=style).start()
    Stream(server.port, quote("workers" + FORGED), quote("w1" + FORGED)).close()
    wait_until(lambda: "worker gone" in server.output(), "the worker's end is told")
    server.stop()

    lines = (tmp_path / "log").read_text().split("\n")[:-1]
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith("12:00:00 INFO forged")]
    if style == "json":
        messages = [json.loads(line)["message"] for line in lines]
        assert f"worker connected: workers{FORGED}/{('w1' + FORGED)[:8]}" in messages
