"""Fixtures of the delivery tests."""

import pytest
from unit.hubs import Clock, Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A hand-moved clock for the hub and its connections."""
    clock = Clock()
    monkeypatch.setattr("resonate_server.delivery.hub.time", clock)
    monkeypatch.setattr("resonate_server.delivery.worker_stream.time", clock)
    return clock
