"""Fixtures of the engine tests."""

from collections.abc import AsyncIterator

import pytest
from unit.engines import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """An engine at work on an empty store."""
    bench = Bench()
    bench.engine.start(bench.notes)
    yield bench
    bench.store.gate.set()
    await bench.engine.stop()
