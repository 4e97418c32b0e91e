"""Results for listeners: they take no memory while they wait, and are gone with everything else after a reset."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.server import Client, ServerProcess
from harness.stream import Stream

RESULTS = 46
RESULT_BYTES = 4 * 1_024 * 1_024 - 2_000
"""Close to the largest body there may be."""

PEAK_MB = 200
"""The container has 256."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path / "log", tmp_path / "state.sqlite", RESONATE_DEBUG="true").start()
    yield process
    process.stop()


def settle_with_listener(client: Client, id: str, address: str, data: str = "") -> None:
    client.create(id)
    client.call("promise.register_listener", awaited=id, address=address)
    assert client.call("promise.settle", id=id, state="resolved", value={"data": data}).status == 200


def peak_mb(server: ServerProcess) -> int:
    [line] = [line for line in Path(f"/proc/{server.pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1_024


def received(stream: Stream) -> str:
    message = stream.message(30)
    return str(message["data"]["promise"]["id"])


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak")
def test_large_results_for_an_absent_listener_wait_outside_of_memory(server: ServerProcess) -> None:
    client = server.client()
    data = "x" * RESULT_BYTES
    for number in range(RESULTS):
        settle_with_listener(client, f"p-{number}", "poll://uni@callers/absent", data)
    assert peak_mb(server) < PEAK_MB
    server.stop()
    server.start()

    stream = Stream(server.port, "callers", "absent")
    seen: set[str] = set()
    while len(seen) < RESULTS:
        seen.add(received(stream))
        stream.forget()

    assert seen == {f"p-{number}" for number in range(RESULTS)}
    assert peak_mb(server) < PEAK_MB
    stream.close()
