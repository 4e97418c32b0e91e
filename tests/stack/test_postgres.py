"""The stack with its state in PostgreSQL: three servers and two bars, run by the same scripts."""

import socket
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest
from harness.postgres import programs

from stack.conftest import containers_seldom, run_stack
from stack.driver import PROCESSES, Answer, Stack, new_id
from stack.test_crash import assert_ends_well

SEVERAL = {"postgres": 1, "resonate-server": 3, "foo": 1, "bar": 2, "baz": 1}
"""Instances of each."""


pytestmark = [pytest.mark.long, containers_seldom]


@pytest.fixture(scope="module")
def running_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    if request.param == "processes":
        programs()  # or it is skipped
    yield from run_stack(Stack(request.param, compose_file="docker-compose.yml:compose.postgres.yml"))


def test_it_has_three_servers_and_two_bars_and_answers(stack: Stack) -> None:
    assert Counter({service: len(stack.instances(service)) for service in SEVERAL}) == SEVERAL
    assert stack.post(id := new_id()) == Answer(200, id, 3)


def test_up_names_the_additional_instances_and_where_the_state_is(stack: Stack) -> None:
    told = stack.run("scripts/up.sh").stderr

    assert f"is up, as {stack.kind}: three servers and two bars, with the state in PostgreSQL.\n" in told


def test_one_server_dies_and_the_others_continue(stack: Stack) -> None:
    report = assert_ends_well(stack, "resonate-server --when running --for 3 --down 1")

    assert "resonate-server is killed" in report
    assert "the other servers continue" in report
    assert "leases stayed as they were" in report
    assert len(stack.instances("resonate-server")) == 3


def test_the_database_dies_and_what_it_has_acknowledged_is_there_when_it_is_back(stack: Stack) -> None:
    assert_ends_well(stack, "postgres --when suspended --for 4 --down 1")


@pytest.mark.kinds("processes")
def test_the_database_is_frozen_with_all_its_connections_and_what_it_has_acknowledged_is_there(stack: Stack) -> None:
    stack.act("freeze", "postgres")
    states = subprocess.check_output(["ps", "-A", "-o", "pid=,stat="], text=True)
    frozen = {int(line.split()[0]) for line in states.splitlines() if line.split()[1].startswith("T")}
    pids = set(map(int, stack.succeed(*PROCESSES, "family", "postgres").split()))
    assert len(pids) > 3, "its connections are among them"
    assert pids <= frozen
    stack.act("thaw", "postgres")
    stack.assert_whole()

    assert_ends_well(stack, "postgres --freeze --when suspended --for 6 --down 2")


@pytest.mark.kinds("processes")
def test_a_server_that_shares_its_port_with_another_program_is_not_healthy(stack: Stack) -> None:
    """As with servers of two databases: each would get requests for what the other one has."""
    with socket.create_server(("127.0.0.1", stack.server_port), reuse_port=True):
        assert stack.run(*PROCESSES, "healthy", "resonate-server").returncode == 1
        stack.kill("resonate-server")
        started = stack.run(*PROCESSES, "start", "resonate-server")

    assert started.returncode == 1
    assert f"port {stack.server_port} is taken by another program" in started.stderr


def test_its_output_is_among_the_logs(stack: Stack) -> None:
    assert "database system is ready to accept connections" in stack.succeed("scripts/logs.sh", "postgres")


def test_requests_continue_after_the_whole_stack_was_down(stack: Stack) -> None:
    stack.post(id := new_id(), {"pause": 3_600}, wait=False)
    stack.down()
    stack.up()
    stack.end_sleep(id)

    assert stack.post(id) == Answer(200, id, 3)
