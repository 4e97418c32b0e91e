"""What happened, as plain data. Times are in seconds since the experiment began."""

from collections import Counter
from enum import StrEnum

from msgspec import Struct, field


class FaultKind(StrEnum):
    """What can be done to an instance of a service, named by the verb of `scripts/lib.sh`."""

    KILL = "kill"
    FREEZE = "freeze"
    CUT_OFF = "cut_off"

    @property
    def undo(self) -> str:
        """The verb that undoes it."""
        return {"kill": "start", "freeze": "thaw", "cut_off": "reconnect"}[self]

    @property
    def struck(self) -> str:
        """How to describe an instance that it has struck."""
        return {"kill": "killed", "freeze": "frozen", "cut_off": "cut off"}[self]

    @property
    def over(self) -> str:
        """How to describe an instance after it was undone."""
        return {"kill": "started again", "freeze": "thawed", "cut_off": "connected again"}[self]


class Fault(Struct):
    """One fault of one instance. ``ended``: when it was undone, ``None`` while it lasts."""

    kind: FaultKind
    service: str
    began: float
    ended: float | None = None


class SentChain(Struct):
    """One request, with all its attempts. ``pause`` and ``running``: how bar is to spend its time, in seconds."""

    id: str
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
