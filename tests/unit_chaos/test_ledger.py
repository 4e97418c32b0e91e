"""A run is good if nothing is lost or wrong, and nothing ran more often than its faults explain."""

from collections import Counter

import pytest

from chaos import ledger
from chaos.ledger import Fault, FaultKind, Record, SentChain, exit_status


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
    return SentChain("c", pause, running, 10, 1, at, status, message)


def lost() -> SentChain:
    return SentChain("c", sent=10, attempts=1)


def fault(service: str, began: float = 10.2, ended: float | None = 10.4) -> Fault:
    return Fault(FaultKind.KILL, service, began, ended)


def wrongs(record: Record) -> list[str]:
    judgements = ledger.judge(record)
    found = [wrong for judgement in judgements for wrong in judgement.wrongs]
    assert ledger.is_as_it_should_be(record, judgements) == (not found and not record.down)
    return found


class TestAnswers:
    def test_the_right_answer_is_accepted(self) -> None:
        assert wrongs(record()) == []

    def test_a_missing_answer_is_a_lost_chain(self) -> None:
        assert wrongs(record(chain=lost())) == ["LOST"]

    def test_a_missing_answer_is_no_loss_if_the_run_was_ended_early(self) -> None:
        early = record(chain=lost())
        early.interrupted = True

        assert wrongs(early) == []

    @pytest.mark.parametrize(("status", "message"), [(200, 4), (200, None), (200, "3"), (500, None), (404, 3)])
    def test_any_other_answer_is_wrong(self, status: int, message: object) -> None:
        assert wrongs(record(chain=answered(status=status, message=message))) == [f"WRONG: HTTP {status}, {message}"]


class TestRuns:
    @pytest.mark.parametrize(("function", "usual"), [("foo", 2), ("bar", 2), ("baz", 1)])
    def test_one_more_than_usual_is_too_often_without_a_fault(self, function: str, usual: int) -> None:
        too_often = f"TOO OFTEN: {function} ran {usual + 1} times, {usual} are explained"

        assert wrongs(ran(function, usual + 1)) == [too_often]

    def test_a_bar_that_pauses_runs_once_more(self) -> None:
        assert wrongs(record(chain=answered(pause=0.5), bar=3)) == []

    def test_work_runs_once(self) -> None:
        working = answered(running=0.5)

        assert wrongs(record(chain=working, work=1)) == []
        assert len(wrongs(record(chain=working, work=2))) == 1

    @pytest.mark.parametrize("service", ["baz", "resonate-server", "postgres"])
    def test_a_fault_of_its_service_or_of_the_storage_explains_one_more(self, service: str) -> None:
        assert wrongs(record(fault(service), baz=2)) == []
        assert len(wrongs(record(fault(service), baz=3))) == 1
        assert wrongs(record(fault(service), fault(service), baz=3)) == []

    @pytest.mark.parametrize("service", ["foo", "bar"])
    def test_a_fault_of_another_service_explains_nothing(self, service: str) -> None:
        assert len(wrongs(record(fault(service), baz=2))) == 1

    def test_a_fault_of_bar_explains_work_that_ran_again(self) -> None:
        assert wrongs(record(fault("bar"), chain=answered(running=0.5), work=2)) == []

    @pytest.mark.parametrize("when", [(9.0, 9.9), (11.1, 12.0)])
    def test_a_fault_before_or_after_the_chain_explains_nothing(self, when: tuple[float, float]) -> None:
        assert len(wrongs(record(fault("baz", *when), baz=2))) == 1

    @pytest.mark.parametrize("when", [(9.0, 10.1), (10.9, 12.0), (9.0, 12.0), (9.0, None)])
    def test_a_fault_that_overlaps_the_chain_explains_one_more(self, when: tuple[float, float | None]) -> None:
        assert wrongs(record(fault("baz", *when), baz=2)) == []

    @pytest.mark.parametrize("function", ["foo", "bar", "baz"])
    def test_an_answer_without_a_run_in_the_logs_is_not_believed(self, function: str) -> None:
        assert wrongs(ran(function, 0)) == [f"MISSING: {function} has not run, by the logs"]


def test_a_service_that_did_not_come_back_is_reported() -> None:
    broken = record()
    broken.down = ["baz"]

    assert not ledger.is_as_it_should_be(broken, ledger.judge(broken))
    assert "NOT UP AGAIN: baz" in ledger.render(broken, ledger.judge(broken))


class TestRecovery:
    def recovery(self, record: Record) -> float | None:
        return ledger.judge(record)[0].recovery

    def test_without_a_fault_there_is_nothing_to_recover_from(self) -> None:
        assert self.recovery(record()) is None

    def test_from_the_end_of_the_last_fault(self) -> None:
        both = record(fault("bar", 10.1, 10.75), fault("baz", 10.2, 10.5))

        assert self.recovery(both) == pytest.approx(0.25)

    def test_from_the_end_of_the_pause_if_that_is_later(self) -> None:
        assert self.recovery(record(fault("bar"), chain=answered(pause=0.9))) == pytest.approx(0.1)

    def test_repeated_work_is_not_counted(self) -> None:
        again = record(fault("bar", 10.1, 10.4), chain=answered(running=0.5, at=11.4), work=2)

        assert self.recovery(again) == pytest.approx(0.4)


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
