"""Unmodified SDKs behind a load balancer for three servers on one database: each connection goes to the next server."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
from durability.site import Site as Servers
from harness.postgres import PostgresServer

from .processes import Outcome, Sdk, Site

pytestmark = pytest.mark.long


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    database = PostgresServer()
    database.start()
    servers = Servers(tmp_path, database)
    yield servers
    servers.close()
    database.remove()


def test_calls_complete_although_their_server_dies(servers: Servers, sdk: Sdk, tmp_path: Path) -> None:
    first, second, _ = servers.servers(3)
    behind_the_door = copy.copy(second)
    behind_the_door.url = servers.door.url
    site = Site(behind_the_door, tmp_path)
    try:
        for group in ("middle", "last", "last"):
            site.worker(sdk, group)
        calls = [site.caller(sdk).begin("rpc", "middle", f"c-{number}", "relay", ["last"], 1) for number in range(20)]
        assert calls[0].outcome() == Outcome(value=2)
        first.kill()
        calls += [site.caller(sdk).begin("rpc", "middle", f"d-{number}", "relay", ["last"], 1) for number in range(20)]

        assert [call.outcome() for call in calls] == [Outcome(value=2)] * 40
    finally:
        for process in site.processes:
            process.kill()
