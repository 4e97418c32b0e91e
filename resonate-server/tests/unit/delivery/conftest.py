"""Fixtures of the delivery tests."""

import pytest
from unit.hubs import Clock, Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("resonate_server.delivery.hub.time", clock)
    return clock
