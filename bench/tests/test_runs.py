"""Short real runs: every figure is there, and the figures are consistent. These tests do not judge speed."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import override

import psutil
import pytest
from harness.basics import wait_until
from harness.http import Handler, serving
from harness.server import FAR, Client
from harness.stack import Stack
from msgspec.structs import replace

from bench import budget, chain, load, meters, overload, server, stores
from bench.load import Played, Workload, WrongAnswers
from bench.report import Report, Table, save
from bench.server import copy_chain
from bench.stack import OtherServer, OwnServer

pytestmark = pytest.mark.long

SHORT = 0.3
KINDS = ("task.create", "task.fence", "task.suspend", "task.acquire", "task.fulfill")


def table(report: Report, title: str) -> Table:
    return next(table for table in report.tables if table.title == title)


def value(report: Report, name: str) -> float | None:
    return next(figure.value for figure in report.figures if figure.name == name)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnServer]:
    server = OwnServer(tmp_path / "server").start()
    yield server
    server.kill()


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnServer]:
    """A server that requires a token, which is in the environment."""
    server = OwnServer(tmp_path / "guarded", {"RESONATE_AUTH__TOKEN": "secret"}).start()
    monkeypatch.setenv("RESONATE_TOKEN", "secret")
    yield server
    server.kill()


def test_stores_measures_chains_on_each_store_and_their_cost_to_the_database() -> None:
    report = stores.measure(rounds=1, seconds=SHORT, servers=1)

    names = (stores.SQLITE, stores.POSTGRES, stores.SEVERAL)
    assert [tuple(row[:2]) for row in report.tables[0].rows] == [(load, name) for load in (1, 32) for name in names]
    assert all(figure.value is not None and figure.value > 0 for figure in report.figures)
    statements, commits = (value(report, f"{what} per chain, PostgreSQL") for what in ("statements", "commits"))
    assert statements is not None
    assert commits is not None
    assert statements > commits > 5


def test_chain_measures_every_contender_at_every_load(guarded: OwnServer) -> None:
    report = chain.measure(rounds=1, seconds=SHORT, loads=(1, 64), server_url=guarded.url)

    speed = {(row[0], row[1]) for row in table(report, "latency and throughput").rows}
    assert speed >= {(load, name) for load in (1, 64) for name in (chain.OWN, chain.PLAIN, OtherServer.name)}
    assert (64, chain.IN_PROCESS) in speed
    costs = {(row[0], row[1]) for row in table(report, "cost per process").rows}
    assert costs >= {(chain.OWN, name) for name in ("resonate-server", "foo", "bar", "baz")}
    assert all(figure.value is not None and figure.value > 0 for figure in report.figures)
    for _, requests, commits, ratio in table(report, "what our server was asked").rows:
        assert isinstance(requests, float) and isinstance(commits, float)
        assert commits <= requests and requests >= 10
        assert ratio == pytest.approx(commits / requests)


def test_server_measures_every_variant(guarded: OwnServer) -> None:
    report = server.measure(rounds=1, seconds=SHORT, stored=(3_000,), pending=500, server_url=guarded.url)

    rows = {str(row[0]): row for row in table(report, "the server alone").rows}
    assert list(rows) == [server.EMPTY, "3,000 stored promises", "500 pending chains", OtherServer.name]
    for name, row in rows.items():
        assert all(isinstance(cell, float) and cell > 0 for cell in row[1:5]), name
    assert value(report, "server memory, 500 pending chains")
    assert value(report, f"median of a request under load, 3,000 stored promises / {server.EMPTY}")


def test_budget_accounts_for_all_of_a_chains_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "STEPS", 20)
    titles = ("one chain at a time", "64 chains in flight: of the time of each, they take turns")

    def names_all(report: Report) -> bool:
        seen = [{row[0] for row in table(report, title).rows} for title in titles]
        return all({"resonate-server", "foo", "bar", "baz", budget.CLIENT} <= names for names in seen)

    # On a busy machine, a short run may never see a process at work.
    report = next(filter(names_all, (budget.measure(seconds=seconds) for seconds in (2, 10, 60))))
    save([report], tmp_path / "results.json")

    for title in titles:
        rows = table(report, title).rows
        assert sum(float(str(row[-1]).rstrip("%")) for row in rows) == pytest.approx(100, abs=len(rows))
    code = table(report, "code that runs, 1 in flight").rows
    assert {row[0] for row in code} >= {"resonate-server", "foo", "bar"}
    assert all(str(row[1]).startswith("`") for row in code), "Markdown would lose <locals>"
    assert len(table(report, "smallest steps").rows) == 2


def test_a_process_that_ends_while_threads_are_listed_has_none() -> None:
    with subprocess.Popen(["true"]) as ended, ExitStack() as opened:
        wait_until(lambda: psutil.Process(ended.pid).status() == psutil.STATUS_ZOMBIE, "it has ended")
        assert list(budget._threads(None, opened)) == []


def test_overload_reports_what_was_started_and_how_it_ended() -> None:
    report = overload.measure(seconds=SHORT, connections=50)

    for _, begun, *outcome, _, _, _ in table(report, "what was started, and how it ended").rows:
        assert begun == sum(int(number or 0) for number in outcome)
    assert value(report, "accepted chains that ended") == 1
    assert value(report, "the server answers afterwards") == 1


def test_an_overload_in_which_every_chain_is_refused_is_reported() -> None:
    borne = Played(request_s=[0.1], chain_s=[0.1], starts={"a": (0, 0.1)}, begun=1, elapsed_s=1)
    report = overload._report(borne, replace(borne, chain_s=[], refused=1), alive=True, peak_bytes=1, seed=1)
    assert (value(report, "accepted chains that ended"), value(report, "refused chains")) == (None, 1)


@pytest.mark.parametrize(
    ("starts", "longest"),
    [([(0.0, 1.0), (0.1, 1.0), (0.2, 2.0)], 0.0), ([(0.0, 5.0), (0.1, 2.0), (0.2, 3.0)], 3.0)],
    ids=["in their order", "out of order"],
)
def test_a_request_is_overtaken_for_as_long_as_a_later_one_was_answered_before_it(
    starts: list[tuple[float, float]], longest: float
) -> None:
    assert max(overload.overtaking_s(starts)) == longest


# ── load ──


@pytest.mark.parametrize(
    ("status", "body", "complaint"),
    [(200, b'{"message":2}', 'instead of "message":3'), (503, b"", "of 1 chains 1 are refused")],
    ids=["wrong", "refused"],
)
def test_an_answer_that_is_not_the_right_one_is_no_measurement(status: int, body: bytes, complaint: str) -> None:
    """A request that is refused ends soon: its figures would be good ones."""

    class Other(Handler):
        protocol_version = "HTTP/1.1"

        @override
        def respond(self) -> None:
            self.body()
            self.answer(status, body)

    with serving(Other) as other, pytest.raises(WrongAnswers, match=complaint):
        load.run(Workload("request to foo", f"http://127.0.0.1:{other.server_port}/foo", in_flight=1))


def test_a_server_that_requires_a_token_cannot_be_measured_without_it(guarded: OwnServer) -> None:
    with pytest.raises(WrongAnswers, match="401"):
        load.run(Workload("workers", guarded.url, in_flight=1))


def test_the_sdk_alone_answers_as_the_services_do() -> None:
    played = load.run(Workload("SDK alone", seconds=SHORT, in_flight=8))

    assert played.chains == played.requests >= 8


def kinds(server: OwnServer) -> dict[str, float]:
    counts = meters.server_counts(server.metrics_port)
    return {kind: counts[kind] for kind in KINDS}


def test_a_simulated_chain_sends_the_same_requests_as_the_services(
    own: OwnServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The services send other requests if a call ends before its caller waits for it, as on a busy machine."""
    monkeypatch.setenv("MAX_TASKS", "1")  # a fully occupied worker grants no patience, like any other SDK's
    load.run(Workload("workers", own.url, in_flight=1))
    real = OwnServer(tmp_path / "real")
    seen: list[dict[str, float]] = []
    with Stack(tmp_path, real) as stack:
        while kinds(own) not in seen and len(seen) < 20:
            before = kinds(real)
            load.run(Workload("request to foo", stack.foo_url, in_flight=1, seed=len(seen)))
            seen.append({kind: count - before[kind] for kind, count in kinds(real).items()})

    assert kinds(own) in seen


@pytest.mark.parametrize(
    ("kind", "state", "callbacks"), [("workers", "resolved", 0), ("workers, to a pause", "pending", 2)]
)
def test_a_prefilled_database_contains_the_requested_number_of_chains(
    kind: load.ChainKind, state: str, callbacks: int, own: OwnServer
) -> None:
    load.run(Workload(kind, own.url, in_flight=1))
    own.stop()

    copy_chain(own.db, copies=49, seed=2)

    client = own.start().client()
    found = client.call("promise.search", tags={"resonate:target": "poll://any@service-foo"}, limit=100).data[
        "promises"
    ]
    assert len({promise["id"] for promise in found}) == 50
    assert {promise["state"] for promise in found} == {state}
    for promise in (found[0], found[-1]):
        children = client.call("promise.search", tags={"resonate:origin": promise["id"]}).data["promises"]
        assert len(children) == (4 if callbacks else 3)
        assert {child["timeoutAt"] for child in children} == {FAR}


# ── meters ──


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace")
def test_a_server_syncs_its_file_for_every_single_request(own: OwnServer) -> None:
    client = Client(own.port)
    with meters.counted_disk_calls(own.pid) as calls:
        for number in range(20):
            assert client.create(f"p{number}").status == 200
    assert 20 <= calls[0] < 30
