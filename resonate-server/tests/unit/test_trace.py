"""A trace whose disk is slower than its server."""

import json
import threading
from pathlib import Path

import pytest
from unit.engines import PATIENCE_S

from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import open_envelope
from resonate_server.protocol.requests import PromiseGet
from resonate_server.trace import MAX_WAITING_BYTES, Trace

LINES = 40
LARGE = "x" * (MAX_WAITING_BYTES // LINES * 2)


class SlowTrace(Trace):
    """A trace that writes nothing before ``gate`` is open."""

    def __init__(self, path: Path) -> None:
        self.gate = threading.Event()
        super().__init__(path)

    def _append(self, line: bytes) -> None:
        self.gate.wait(PATIENCE_S)
        super()._append(line)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace"


@pytest.fixture
def trace(path: Path) -> SlowTrace:
    return SlowTrace(path)


def fill(trace: Trace) -> None:
    body = b'{"kind":"promise.get","head":{"corrId":"1","version":"2026-04-01"},"data":{"id":"x"}}'
    envelope, request = open_envelope(body), PromiseGet(id="x")
    trace.asks(request, envelope)
    for number in range(LINES):
        trace.answers(request, number, Answer(status=404, data=LARGE), due_at=LINES)


def test_a_disk_that_cannot_keep_up_ends_the_trace_and_is_reported_once(
    trace: SlowTrace, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(trace)
    trace.gate.set()
    trace.close()

    assert caplog.text.count("ends here: the disk cannot keep up; the server continues without it") == 1
    times = [json.loads(line)["now"] for line in path.read_text().splitlines()]
    assert times == list(range(len(times)))
    assert 0 < len(times) < LINES


def test_a_hanging_disk_does_not_delay_the_server_s_shutdown(trace: SlowTrace) -> None:
    fill(trace)
    trace.close()  # returns although the disk hangs
    trace.gate.set()
