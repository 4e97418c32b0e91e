"""The ledger: what happened, what became of every chain, and whether all is as expected. Times are in seconds since the
experiment began."""

from collections import Counter
from collections.abc import Iterator

from msgspec import Struct, field

from resonate_server.client.account import FaultKind

RIGHT = 3
SERVERS = ("resonate-server", "postgres")
"""They hold the state: a fault of theirs is a fault of all services."""

FUNCTIONS = {"foo": "foo", "bar": "bar", "work": "bar", "baz": "baz"}
"""Each function of a chain, and the service that runs it."""

RULE = """\
How often a function may run for a chain: baz and bar's work once. foo and bar run from their top each time they go on:
once, and once more for each call or sleep they wait for. One more run of each for every fault that the chain met, if it
hit the service that runs the function, a server, or the database. A chain meets a fault if it is open meanwhile."""


class Fault(Struct):
    """One fault of one instance. ``ended``: when it was undone, ``None`` while it lasts."""

    kind: FaultKind
    service: str
    began: float
    ended: float | None = None


class SentChain(Struct):
    """One request, with all its attempts. ``pause`` and ``running``: how bar is to spend its time, in seconds.
    ``due``: when it is to be sent."""

    id: str
    due: float = 0
    pause: float = 0
    running: float = 0
    sent: float = 0
    attempts: int = 0
    answered: float | None = None
    status: int = 0
    message: object = None

    @property
    def spends(self) -> float:
        """Seconds that bar spends: there can be no answer before that."""
        return self.pause + self.running


type Runs = dict[str, Counter[str]]
"""How often each function ran, by the chain's id."""


class Record(Struct):
    """A whole experiment. ``interrupted``: somebody ended it early. ``down``: services that did not come back."""

    kind: str
    seed: int
    chains: list[SentChain] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    runs: Runs = field(default_factory=dict)
    interrupted: bool = False
    down: list[str] = field(default_factory=list)


class Judgement(Struct, frozen=True):
    """``wrongs``: what is wrong with the chain, in words; ``recovery``: in seconds, ``None`` if it met no fault."""

    chain: SentChain
    met: list[Fault]
    wrongs: list[str]
    recovery: float | None


def judge(record: Record) -> list[Judgement]:
    return [_judge(record, chain) for chain in record.chains]


def usual_runs(chain: SentChain, function: str) -> int:
    """Return how often it may run for the chain if nothing fails."""
    match function:
        case "foo":
            return 2
        case "bar":
            return 3 if chain.pause else 2
    return 1


def _judge(record: Record, chain: SentChain) -> Judgement:
    met = [fault for fault in record.faults if _meets(chain, fault)]
    wrongs = [*_wrong_answer(record, chain), *_wrong_runs(record, chain, met)]
    return Judgement(chain, met, wrongs, _recovery(record, chain, met))


def _meets(chain: SentChain, fault: Fault) -> bool:
    ends_before = fault.ended is not None and fault.ended < chain.sent
    begins_after = chain.answered is not None and fault.began > chain.answered
    return not ends_before and not begins_after


def _wrong_answer(record: Record, chain: SentChain) -> Iterator[str]:
    if chain.answered is None:
        if not record.interrupted:
            yield "LOST"
    elif (chain.status, chain.message) != (200, RIGHT):
        yield f"WRONG: HTTP {chain.status}, {chain.message}"


def _wrong_runs(record: Record, chain: SentChain, met: list[Fault]) -> Iterator[str]:
    runs = record.runs.get(chain.id, Counter())
    for function, service in FUNCTIONS.items():
        count = runs.get(function, 0)
        most = usual_runs(chain, function) + sum(fault.service in (service, *SERVERS) for fault in met)
        if count > most:
            yield f"TOO OFTEN: {function} ran {count} times, {most} are explained"
        if count == 0 and chain.answered is not None and (function != "work" or chain.running):
            yield f"MISSING: {function} has not run, by the logs"


def _recovery(record: Record, chain: SentChain, met: list[Fault]) -> float | None:
    """Return the time to the answer from the end of the last fault met, or of bar's own time if later.

    Repeated work is not counted.
    """
    if not met or chain.answered is None:
        return None
    over = max((fault.ended for fault in met if fault.ended is not None), default=chain.sent)
    again = chain.running if record.runs.get(chain.id, Counter())["work"] > 1 else 0
    return max(chain.answered - max(over, chain.sent + chain.spends) - again, 0)


def exit_status(record: Record, judgements: list[Judgement]) -> int:
    if record.down or any(judgement.wrongs for judgement in judgements):
        return 1
    return 130 if record.interrupted else 0


# --- as text --------------------------------------------------------------------------------------------------------


def render(record: Record, judgements: list[Judgement]) -> str:
    parts = [_chain_lines(record, judgements), _fault_lines(record), [RULE], _summary(record, judgements)]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _chain_lines(record: Record, judgements: list[Judgement]) -> list[str]:
    titles = f"{'chain':<28} {'sent':>7}  {'bar':<13} {'answer':>6} {'after':>8} {'tries':>5}"
    heading = f"{titles}  runs: {' '.join(FUNCTIONS)}  faults met"
    return [heading, *(_chain_line(record, judgement) for judgement in judgements)]


def _chain_line(record: Record, judgement: Judgement) -> str:
    chain = judgement.chain
    spends = f"pauses {chain.pause}" if chain.pause else f"works {chain.running}" if chain.running else ""
    answer, after = "-", "-"
    if chain.answered is not None:
        answer = str(chain.message if chain.status == 200 else f"HTTP {chain.status}")
        after = f"{chain.answered - chain.sent:.2f} s"
    counts = record.runs.get(chain.id, Counter())
    runs = " ".join(f"{counts.get(function, 0):>4}" for function in FUNCTIONS)
    met = ", ".join(f"{fault.service} {fault.kind.struck}" for fault in judgement.met)
    notes = "; ".join(filter(None, [met, *judgement.wrongs]))
    left = f"{chain.id:<28} {chain.sent:>5.1f} s  {spends:<13} {answer:>6} {after:>8} {chain.attempts:>5}     {runs}"
    return f"{left}  {notes}".rstrip()


def _fault_lines(record: Record) -> list[str]:
    return ["faults", *(f"{fault.began:>7.1f} s  {_fault_text(fault)}" for fault in record.faults)]


def _fault_text(fault: Fault) -> str:
    if fault.ended is None:
        return f"{fault.service} {fault.kind.struck}, and still so"
    return f"{fault.service} {fault.kind.struck}, {fault.kind.over} after {fault.ended - fault.began:.1f} s"


def _summary(record: Record, judgements: list[Judgement]) -> list[str]:
    wrongs = [wrong for judgement in judgements for wrong in judgement.wrongs]
    return [
        _count_chains(record),
        f"faults: {len(record.faults)} ({_count_faults(record)})",
        _longest_wait(record),
        _longest_recovery(judgements),
        *(f"NOT UP AGAIN: {service}" for service in record.down),
        f"seed {record.seed}, as {record.kind}: "
        + (f"{len(wrongs)} things went wrong" if wrongs or record.down else "everything is as expected"),
    ]


def _count_chains(record: Record) -> str:
    right = sum(chain.status == 200 and chain.message == RIGHT for chain in record.chains)
    open_ = sum(chain.answered is None for chain in record.chains)
    early = f", {open_} open when it was ended early" if record.interrupted else f", {open_} lost"
    wrong = len(record.chains) - right - open_
    repeated = sum(chain.attempts > 1 for chain in record.chains)
    answered = f"{right} answered with {RIGHT}, {wrong} wrongly"
    return f"chains: {len(record.chains)}, {answered}{early}; asked again: {repeated}"


def _count_faults(record: Record) -> str:
    counts = {kind: sum(fault.kind is kind for fault in record.faults) for kind in FaultKind}
    return ", ".join(f"{count} {kind.struck}" for kind, count in counts.items() if count) or "none"


def _longest_wait(record: Record) -> str:
    waits = [(chain.answered - chain.sent - chain.spends, chain.id) for chain in record.chains if chain.answered]
    if not waits:
        return "no chain was answered"
    longest, id = max(waits)
    return f"longest wait: {longest:.2f} s ({id}), faults included, bar's own time not"


def _longest_recovery(judgements: list[Judgement]) -> str:
    recoveries = [(j.recovery, j.chain.id) for j in judgements if j.recovery is not None]
    if not recoveries:
        return "no chain met a fault"
    longest, id = max(recoveries)
    return (
        f"longest recovery: {longest:.2f} s ({id}), "
        f"median {sorted(recoveries)[len(recoveries) // 2][0]:.2f} s of {len(recoveries)} chains that met a fault; "
        "from the end of the last fault, or of bar's own time, to the answer"
    )
