"""Short real runs: every figure is there, and the figures agree with each other. Nothing here is about speed."""

import sys
from pathlib import Path

import pytest

from bench import chain, overload, server
from bench.contenders import OTHER_BY_COMMAND, OWN, PLAIN
from bench.in_process import measure as measure_in_process
from bench.load import Generator, Job, WrongAnswers
from bench.plain.stack import PlainStack
from bench.record import record
from bench.replay.player import Play, play
from bench.replay.prefill import fill, model_of
from bench.replay.template import CHAIN_FILE, PAUSED_CHAIN_FILE, load
from bench.stack import OwnServer
from resonate_server.store.sqlite import Database

SHORT = 0.3
COMMAND = f"{sys.executable} -m resonate_server dev --port {{port}}"


def test_chain_measures_every_contender_at_every_load() -> None:
    report = chain.measure(rounds=1, seconds=SHORT, loads=(1, 64), server_command=COMMAND)

    speed = {(row[0], row[1]) for row in report.table("latency and throughput").rows}
    assert speed >= {(load, name) for load in (1, 64) for name in (OWN, PLAIN, OTHER_BY_COMMAND)}
    assert (64, chain.IN_PROCESS) in speed
    costs = {(row[0], row[1]) for row in report.table("cost per process").rows}
    assert costs >= {(OWN, name) for name in ("resonate-server", "foo", "bar", "baz")}
    assert all(figure.value is not None and figure.value > 0 for figure in report.figures)


def test_a_chain_takes_more_than_ten_requests_and_not_more_commits_than_requests() -> None:
    report = chain.measure(rounds=1, seconds=SHORT, loads=(1,))

    ((_, requests, commits, ratio),) = report.table("what our server was asked").rows
    assert isinstance(requests, float)
    assert isinstance(commits, float)
    assert requests > 10
    assert commits <= requests
    assert ratio == pytest.approx(commits / requests)


def test_an_answer_that_is_not_the_right_one_is_no_measurement(tmp_path: Path) -> None:
    plain = PlainStack(tmp_path)
    try:
        with Generator() as generator, pytest.raises(WrongAnswers, match='"message":3'):
            generator.run(Job(f"{plain.start().foo_url}/foo", 1, 0, expected='"message":4'))
    finally:
        plain.stop()


def test_the_sdk_alone_answers_as_the_services_do(tmp_path: Path) -> None:
    result = measure_in_process(8, SHORT, tmp_path / "log")

    assert len(result.latencies_s) >= 8
    assert (tmp_path / "log").read_text().count("running function baz") == len(result.latencies_s)


def test_server_measures_every_variant() -> None:
    report = server.measure(rounds=1, seconds=SHORT, stored=(3_000,), pending=500, server_command=COMMAND)

    rows = {str(row[0]): row for row in report.table("the server alone").rows}
    assert list(rows) == [server.EMPTY, "3,000 stored promises", "500 pending chains", "server by command"]
    for name, row in rows.items():
        assert all(isinstance(cell, float) and cell > 0 for cell in row[1:6]), name
    assert report.figure("server memory, 500 pending chains").value
    assert report.figure(f"median of a request under load, 3,000 stored promises / {server.EMPTY}").target


def test_overload_tells_what_was_begun_and_what_became_of_it() -> None:
    report = overload.measure(seconds=SHORT, connections=50)

    borne, overloaded = report.table("what was started, and how it ended").rows
    for _, begun, refused, ended, unfinished, *_ in (borne, overloaded):
        assert isinstance(begun, int)
        assert begun == int(refused or 0) + int(ended or 0) + int(unfinished or 0)
    assert report.figure("accepted chains that ended").value == 1
    assert report.figure("the server answers afterwards").passed


def test_a_new_recording_can_be_replayed(tmp_path: Path) -> None:
    recorded = record(tmp_path / "recording", pause=0)
    own = OwnServer(tmp_path)
    try:
        played = play(Play(own.start().url, recorded, connections=4, seconds=SHORT, seed=1, in_flight=4))
    finally:
        own.close()

    assert played.chains >= 4
    assert played.requests == played.chains * len(recorded.steps)
    assert played.unfinished == 0


def test_a_replayed_chain_leaves_what_a_real_one_leaves(tmp_path: Path) -> None:
    rows = model_of(load(CHAIN_FILE), tmp_path, seed=1)

    assert [promise.state.value for promise in rows.promises] == ["resolved"] * 3
    assert [task.state.value for task in rows.tasks] == ["fulfilled"] * 3


def test_a_prefilled_database_holds_so_many_chains_that_wait(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    fill(tmp_path / "filled.db", model_of(load(PAUSED_CHAIN_FILE), tmp_path / "model", seed=1), chains=50, seed=2)

    database = Database(tmp_path / "filled.db")
    rows = database.snapshot()
    database.close()
    roots = [promise for promise in rows.promises if ":" not in promise.id]
    assert len(roots) == 50
    assert {promise.state.value for promise in roots} == {"pending"}
    assert len({row.awaiter for row in rows.callbacks}) == 100
