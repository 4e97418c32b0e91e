"""The log of a running server: text from strangers stays within one line."""

import json
from urllib.parse import quote

import pytest
from harness.basics import wait_until
from harness.stream import Stream
from integration.servers import Start

FORGED = "\n12:00:00 INFO forged\x1b[2K\u2028\u202e"


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_worker_s_group_and_id_cannot_forge_lines(start: Start, style: str) -> None:
    server = start(RESONATE_LOG_FORMAT=style)
    Stream(server.port, quote("workers" + FORGED), quote("w1" + FORGED)).close()
    wait_until(lambda: "worker gone" in server.output(), "the worker's end is told")
    server.stop()

    lines = server.log.read_text().split("\n")[:-1]
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith("12:00:00 INFO forged")]
    if style == "json":
        messages = [json.loads(line)["message"] for line in lines]
        assert f"worker connected: workers{FORGED}/{('w1' + FORGED)[:8]}" in messages
