"""Running PostgreSQL stores as in servers, and what listens to them. No assertions in here."""

import asyncio
from collections.abc import Callable

from unit.driver import CORR_ID

from resonate_server import kernel
from resonate_server.kernel.model import Footprint, Rule, Rules
from resonate_server.protocol.envelope import CheckedRequest
from resonate_server.protocol.requests import Request
from resonate_server.store import Decided
from resonate_server.store.sharing import PeerListener, Rosters

LEASE = 3_600_000
RULES = Rules(retry_timeout_ms=LEASE)
PATIENCE_S = 60


class Told:
    """A listener that records its calls."""

    def __init__(self) -> None:
        self.requests: list[Decided] = []
        self.shared: list[int] = []
        """For each commit, how many requests shared it."""

    def decided(self, decided: Decided) -> None:
        if decided.request is not None:
            self.requests.append(decided)

    def committed(self, decisions: int, seconds: float) -> None:  # noqa: ARG002  the listener's
        self.shared.append(decisions)


class Notes(PeerListener):
    """A listener that records its calls."""

    def __init__(self) -> None:
        self.rosters: dict[int, bytes] = {}
        self.rung: list[str] = []
        self.missed = 0
        self.inherited: list[bytes] = []

    def update_rosters(self, rosters: Rosters) -> None:
        self.rosters = dict(rosters)

    def heard(self, messages: str) -> None:
        self.rung.append(messages)

    def may_have_missed(self) -> None:
        self.missed += 1

    def inherits(self, roster: bytes) -> None:
        self.inherited.append(roster)


def answering(request: Request) -> tuple[Footprint, Rule]:
    return kernel.answering(CheckedRequest(corr_id=CORR_ID, request=request), RULES)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)
