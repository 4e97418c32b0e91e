"""The tests' own network is isolated: programs in it see nothing of the machine's network."""

import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from harness.basics import free_port
from harness.network import isolated_network

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or bool(os.geteuid()), reason="only Linux has it, and grants it to root alone"
)


NETWORK = Path("/proc/thread-self/ns/net")


def interfaces_of_a_child() -> list[str]:
    lines = subprocess.check_output(["cat", "/proc/net/dev"], text=True).splitlines()[2:]
    return [line.split(":")[0].strip() for line in lines]


def test_programs_started_in_it_see_only_loopback() -> None:
    with isolated_network():
        assert interfaces_of_a_child() == ["lo"]


def test_servers_in_it_can_be_reached_only_from_within() -> None:
    with isolated_network():
        server = socket.create_server(("127.0.0.1", free_port()))
        socket.create_connection(server.getsockname(), timeout=60).close()
    with server, pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.getsockname(), timeout=60)


def test_the_old_network_is_restored_however_it_ends() -> None:
    before = NETWORK.readlink()
    with suppress(KeyError), isolated_network():
        assert NETWORK.readlink() != before
        raise KeyError

    assert NETWORK.readlink() == before
