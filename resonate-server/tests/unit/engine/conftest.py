"""Fixtures of the engine tests."""

from collections.abc import AsyncIterator

import pytest
from unit.engines import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with Bench().at_work() as bench:
        yield bench
