"""Which answers count as large. The engine's tests check that they wait for one another."""

import pytest

from resonate_server.protocol.answers import Answer
from resonate_server.store import outgoing
from resonate_server.store.outgoing import LARGE_BYTES, weighed

SMALL = Answer(status=200, data=None)


def test_only_large_answers_have_a_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = LARGE_BYTES
    monkeypatch.setattr(outgoing, "answer_weight", lambda _: weight)
    assert weighed(SMALL) == SMALL
    weight += 1
    assert weighed(SMALL) == Answer(status=200, data=None, weight=LARGE_BYTES + 1)
