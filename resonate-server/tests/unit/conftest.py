"""Fixtures shared by the unit tests."""

import pytest
from unit.driver import Driver


@pytest.fixture
def server() -> Driver:
    return Driver()
