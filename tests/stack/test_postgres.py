"""The stack with its state in PostgreSQL: three servers and two bars, by the same scripts."""

from collections import Counter
from collections.abc import Iterator
from typing import cast

import pytest
from harness.postgres import programs
from stack.conftest import run_stack
from stack.driver import Answer, Kind, Stack, new_id
from stack.test_crash import assert_ends_well

SEVERAL = {"postgres": 1, "resonate-server": 3, "foo": 1, "bar": 2, "baz": 1}
"""Instances of each."""


@pytest.fixture(scope="module", params=["processes", pytest.param("containers", marks=pytest.mark.long)])
def with_postgres(request: pytest.FixtureRequest) -> Iterator[Stack]:
    kind = cast("Kind", request.param)
    if kind == "processes":
        programs()  # or it is skipped
    yield from run_stack(Stack(kind, compose_file="docker-compose.yml:compose.postgres.yml"))


def test_it_has_three_servers_and_two_bars_and_answers(with_postgres: Stack) -> None:
    assert Counter({service: len(with_postgres.instances(service)) for service in SEVERAL}) == SEVERAL
    assert with_postgres.post(id := new_id()) == Answer(200, id, 3)


def test_up_tells_what_there_is_more_of_and_where_the_state_is(with_postgres: Stack) -> None:
    told = with_postgres.run("scripts/up.sh").stderr

    assert f"is up, as {with_postgres.kind}: three servers and two bars, with the state in PostgreSQL.\n" in told


def test_one_server_dies_and_the_others_go_on(with_postgres: Stack) -> None:
    report = assert_ends_well(with_postgres, "resonate-server --when running --for 3 --down 1")

    assert "resonate-server is killed" in report
    assert len(with_postgres.instances("resonate-server")) == 3


def test_the_database_dies_and_what_it_has_acknowledged_is_there_when_it_is_back(with_postgres: Stack) -> None:
    assert_ends_well(with_postgres, "postgres --when suspended --for 4 --down 1")


def test_what_it_prints_is_among_the_logs(with_postgres: Stack) -> None:
    assert "database system is ready to accept connections" in with_postgres.succeed("scripts/logs.sh", "postgres")


def test_requests_go_on_after_all_of_it_was_down(with_postgres: Stack) -> None:
    with_postgres.post(id := new_id(), {"pause": 3_600}, wait=False)
    with_postgres.down()
    with_postgres.up()
    with_postgres.end_sleep(id)

    assert with_postgres.post(id) == Answer(200, id, 3)
