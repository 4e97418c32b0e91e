"""Fixtures shared by the unit tests."""

import pytest
from unit.driver import Driver


@pytest.fixture
def server() -> Driver:
    """The kernel on an empty in-memory store."""
    return Driver()
