"""Starting, refusing to start, and stopping."""

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from harness.basics import answers_200, free_port, wait_until
from harness.metrics import requests_answered
from harness.server import Client, ServerProcess
from harness.stream import Stream
from integration.servers import Start, postgres_at


def test_a_taken_port_stops_the_start_with_one_sentence(refused: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        reason = f"cannot listen on 127.0.0.1:{port}: another program has this port"
        assert refused(port) == f"resonate-server: {reason}\n"


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_an_address_that_is_none_stops_the_start_with_one_sentence(refused: Callable[..., str], host: str) -> None:
    assert refused(80, None, "--host", host).startswith(f"resonate-server: cannot listen on {host}:80: ")


def test_the_log_has_a_url_that_can_be_used() -> None:
    server = ServerProcess(Path(os.devnull))
    server.command += ["--host", "::1"]
    with subprocess.Popen(server.command, stdout=subprocess.PIPE, text=True, env=server.env) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        running.terminate()
    assert f"listening on http://[::1]:{server.port}" in line


def test_servers_that_share_a_port_all_get_connections(start: Start, own_postgres_url: str) -> None:
    port, metrics = free_port(), [free_port(), free_port()]
    settings = {"RESONATE_SERVER__SHARED_PORT": "true", **postgres_at(own_postgres_url)}
    for each in metrics:
        start(port=port, RESONATE_OBSERVABILITY__METRICS_PORT=str(each), **settings)

    def all_are_asked() -> bool:
        statuses = {Client(port).call("promise.get", id="p").status for _ in range(8)}
        return statuses == {404} and all(answers_200(each, "/metrics") and requests_answered(each) for each in metrics)

    wait_until(all_are_asked, "both are asked")


@pytest.mark.parametrize("has_database", [True, False])
def test_a_server_of_another_store_does_not_stay_on_a_shared_port(
    start: Start, tmp_path: Path, own_postgres_url: str, has_database: bool
) -> None:
    shared = {"RESONATE_SERVER__SHARED_PORT": "true"}
    first = start(**shared, **postgres_at(own_postgres_url))
    place = postgres_at(f"{own_postgres_url}_other") if has_database else {}
    other = ServerProcess(tmp_path / "other.log", None, first.port, **shared, **place)
    if has_database:
        with psycopg.connect(own_postgres_url, autocommit=True) as database:
            database.execute(f"CREATE DATABASE {own_postgres_url.rpartition('/')[2]}_other".encode())
    other.launch()

    wait_until(lambda: not other.is_running, "it has ended")
    assert f"listens on port {first.port}: the two cannot share it" in other.output()
    assert first.stop() == 0


def test_a_file_in_use_or_of_another_kind_is_refused(refused: Callable[..., str], start: Start, tmp_path: Path) -> None:
    start("state.db")
    (tmp_path / "other.db").write_text("something else, long enough to be looked at" * 100)
    assert "in use by another server" in refused(None, tmp_path / "state.db")
    assert "not a database" in refused(None, tmp_path / "other.db")


FAILING_ONCE = """
import resonate_server.build
from resonate_server.__main__ import main
from resonate_server.watch.survey import Survey

async def fail(self):
    Survey.look = look
    raise ValueError("no figures")

async def succeed(self):
    print("figures again", flush=True)

resonate_server.build.DUTY_PAUSE_S, look, Survey.look = 0, succeed, fail
main()
"""


def test_a_background_duty_that_fails_is_reported_and_begins_again(start: Start) -> None:
    server = start(program=FAILING_ONCE)
    server.wait_for("figures again")
    assert "ERROR a background duty has failed; it begins again" in server.output()
    assert "  ValueError: no figures" in server.output()


def test_sigterm_ends_streams_and_process_cleanly_within_a_second(start: Start) -> None:
    server = start("state.db")
    stream = Stream(server.port, "g", "w")
    status, took = server.end()

    assert status == 0
    assert took < 10, f"{took:.1f} s, on a busy machine"
    with pytest.raises(EOFError):
        stream.message(1)
    assert "Traceback" not in server.log.read_text()
