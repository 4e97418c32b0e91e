"""What chaos.sh plans, how it ends, and its judgement: a run is good if nothing is lost or wrong, and nothing ran more
often than its faults explain."""

import contextlib
import os
from collections import Counter
from itertools import islice

import pytest

from chaos import ledger, plan, stack
from chaos.experiment import Display
from chaos.ledger import Fault, Record, SentChain, exit_status
from chaos.stack import Stack, StackError
from resonate_server.client.account import FaultKind

# ── the plan: it depends on the seed alone, and stays within its limits ──

LEASE_S = 10.0
SERVICES = ("resonate-server", "foo", "bar", "baz", "qux")
KINDS = {FaultKind.KILL: 5, FaultKind.FREEZE: 3}
SEEDS = range(20)


def some_waves(seed: int) -> list[plan.Wave]:
    return list(islice(plan.waves(seed, SERVICES, KINDS, LEASE_S), 50))


def test_the_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    assert plan.chains(7, 100, 60) == plan.chains(7, 100, 60) != plan.chains(8, 100, 60)
    assert some_waves(7) == some_waves(7) != some_waves(8)


def test_chains_are_sent_one_after_the_other_over_the_whole_time() -> None:
    for seed in SEEDS:
        times = [chain.due for chain in plan.chains(seed, 100, 60)]
        assert len(times) == 100
        assert times == sorted(times)
        assert 0 <= times[0] < 1 and 59 < times[-1] < 60


def test_in_the_long_run_every_service_is_struck_alone_and_with_others_briefly_and_beyond_a_lease() -> None:
    waves = [wave for seed in SEEDS for wave in some_waves(seed)]
    strikes = [strike for wave in waves for strike in wave.strikes]

    assert all(len({strike.service for strike in wave.strikes}) == len(wave.strikes) for wave in waves)
    assert {strike.kind for strike in strikes} == set(KINDS)
    assert {strike.service for strike in strikes} == set(SERVICES)
    assert {len(wave.strikes) for wave in waves} == {1, 2, 3, 4}
    assert any(strike.lasts > LEASE_S for strike in strikes) and any(strike.lasts < 1 for strike in strikes)
    assert max(strike.lasts for strike in strikes) <= LEASE_S + plan.BEYOND_LEASE_S


# ── the stack hangs, or nobody watches any more ──


async def test_an_action_that_takes_too_long_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "ACTION_SECONDS", 0.001)

    assert not await Stack("processes", ["bar"]).is_healthy("bar")
    with pytest.raises(StackError, match=r"^mend bar: not within 0.001 s$"):
        await Stack("processes", ["bar"]).call("mend", "bar")


def test_a_display_that_nobody_reads_raises_nothing_but_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `scripts/chaos.sh 2>&1 | head`: what is struck must be brought back first."""
    reader, writer = os.pipe()
    output = os.fdopen(writer, "w")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", output)
        display = Display(lambda: 0)
        display.event("bar is killed")
        was_gone = display.is_gone
        os.close(reader)
        display.event("bar is started again")
        display.close()
    with contextlib.suppress(BrokenPipeError):
        output.close()

    assert (was_gone, display.is_gone) == (False, True)


# ── the ledger ──


def record(*faults: Fault, chain: SentChain | None = None, **runs: int) -> Record:
    """A record of one chain, by default from second 10 to 11 and with the usual runs."""
    chain = chain or answered()
    return Record("processes", 1, [chain], list(faults), {chain.id: Counter({"foo": 2, "bar": 2, "baz": 1} | runs)})


def ran(function: str, times: int) -> Record:
    """A record without faults in which this function ran that often, and the others as often as usual."""
    found = record()
    found.runs["c"][function] = times
    return found


def answered(
    *, pause: float = 0, running: float = 0, at: float = 11, status: int = 200, message: object = 3
) -> SentChain:
    return SentChain("c", 10, pause, running, 10, 1, at, status, message)


def lost() -> SentChain:
    return SentChain("c", sent=10, attempts=1)


def fault(service: str, began: float = 10.2, ended: float | None = 10.4) -> Fault:
    return Fault(FaultKind.KILL, service, began, ended)


def wrongs(record: Record) -> list[str]:
    judgements = ledger.judge(record)
    found = [wrong for judgement in judgements for wrong in judgement.wrongs]
    assert (exit_status(record, judgements) == 1) == bool(found or record.down)
    return found


def early(run: Record) -> Record:
    run.interrupted = True
    return run


def wrong(status: int, message: object) -> tuple[Record, list[str]]:
    return record(chain=answered(status=status, message=message)), [f"WRONG: HTTP {status}, {message}"]


def too_often(function: str, count: int) -> list[str]:
    return [f"TOO OFTEN: {function} ran {count} times, {count - 1} are explained"]


WORKING = answered(running=0.5)
JUDGED: dict[str, tuple[Record, list[str]]] = {
    "the right answer": (record(), []),
    "no answer": (record(chain=lost()), ["LOST"]),
    "no answer in a run that was ended early": (early(record(chain=lost())), []),
    "another answer": wrong(200, 4),
    "an answer of another kind": wrong(200, "3"),
    "an answer without a message": wrong(200, None),
    "a failure": wrong(500, None),
    "the right answer with a wrong status": wrong(404, 3),
    **{
        f"{function} too often, without a fault": (ran(function, usual + 1), too_often(function, usual + 1))
        for function, usual in (("foo", 2), ("bar", 2), ("baz", 1))
    },
    **{
        f"{function} not in the logs": (ran(function, 0), [f"MISSING: {function} has not run, by the logs"])
        for function in ("foo", "bar", "baz")
    },
    "a bar that pauses runs once more": (record(chain=answered(pause=0.5), bar=3), []),
    "work once": (record(chain=WORKING, work=1), []),
    "work twice": (record(chain=WORKING, work=2), too_often("work", 2)),
    "work twice, as bar was struck": (record(fault("bar"), chain=WORKING, work=2), []),
    **{
        f"baz twice, as {service} was struck": (record(fault(service), baz=2), [])
        for service in ("baz", *ledger.SERVERS)
    },
    **{
        f"baz three times, as {service} was struck": (record(fault(service), baz=3), too_often("baz", 3))
        for service in ("baz", *ledger.SERVERS)
    },
    "baz three times, struck twice": (record(fault("baz"), fault("baz"), baz=3), []),
    **{
        f"baz twice, as {service} was struck": (record(fault(service), baz=2), too_often("baz", 2))
        for service in ("foo", "bar")
    },
    **{
        f"baz twice, struck from {when[0]} to {when[1]}": (record(fault("baz", *when), baz=2), too_often("baz", 2))
        for when in ((9.0, 9.9), (11.1, 12.0))
    },
    **{
        f"baz twice, struck from {when[0]} to {when[1]}": (record(fault("baz", *when), baz=2), [])
        for when in ((9.0, 10.1), (10.9, 12.0), (9.0, 12.0), (9.0, None))
    },
}


@pytest.mark.parametrize(("run", "found"), JUDGED.values(), ids=JUDGED)
def test_what_is_wrong(run: Record, found: list[str]) -> None:
    assert wrongs(run) == found


def test_a_service_that_did_not_come_back_is_reported() -> None:
    broken = record()
    broken.down = ["baz"]

    assert exit_status(broken, ledger.judge(broken)) == 1
    assert "NOT UP AGAIN: baz" in ledger.render(broken, ledger.judge(broken))


@pytest.mark.parametrize(
    ("run", "seconds"),
    [
        pytest.param(record(), None, id="no fault"),
        pytest.param(record(fault("bar", 10.1, 10.75), fault("baz", 10.2, 10.5)), 0.25, id="from the last fault's end"),
        pytest.param(record(fault("bar"), chain=answered(pause=0.9)), 0.1, id="from the pause's end if that is later"),
        pytest.param(
            record(fault("bar", 10.1, 10.4), chain=answered(running=0.5, at=11.4), work=2),
            0.4,
            id="without repeated work",
        ),
    ],
)
def test_the_time_of_a_recovery(run: Record, seconds: float | None) -> None:
    assert ledger.judge(run)[0].recovery == (None if seconds is None else pytest.approx(seconds))


def test_the_text_gives_all_chains_and_faults_the_rule_and_the_seed() -> None:
    told = record(fault("bar"))
    text = ledger.render(told, ledger.judge(told))

    for expected in ("\nc  ", "bar killed, started again after 0.2 s", ledger.RULE, "1 answered with 3", "seed 1"):
        assert expected in text


@pytest.mark.parametrize(
    ("run", "interrupted", "down", "status"),
    [
        (record(), False, [], 0),
        (record(), True, [], 130),
        (record(chain=lost()), False, [], 1),
        (record(chain=lost()), True, [], 130),
        (record(chain=answered(message=4)), False, [], 1),
        (record(chain=answered(message=4)), True, [], 1),
        (ran("baz", 2), False, [], 1),
        (record(), False, ["bar"], 1),
    ],
)
def test_the_exit_status_reflects_the_judgement(
    run: Record, *, interrupted: bool, down: list[str], status: int
) -> None:
    run.interrupted, run.down = interrupted, down

    assert exit_status(run, ledger.judge(run)) == status
