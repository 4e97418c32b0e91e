"""Whether the store is writable, and how that is reported."""

import logging

import pytest

from resonate_server.store.errors import StoreFailed
from resonate_server.store.health import StoreHealth


@pytest.fixture
def health(caplog: pytest.LogCaptureFixture) -> StoreHealth:
    caplog.set_level(logging.INFO)
    return StoreHealth()


def test_trouble_is_logged_once_and_so_is_its_end(health: StoreHealth, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        health.failed(StoreFailed("disk full"))
    assert health.trouble == "disk full"
    health.failed(StoreFailed("disk broken"))
    for _ in range(3):
        health.worked()
    assert health.trouble == ""
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "cannot store anything, answering requests with 503: disk full"),
        (logging.ERROR, "cannot store anything, answering requests with 503: disk broken"),
        (logging.INFO, "the store works again"),
    ]


@pytest.mark.parametrize(
    ("error", "is_traced"), [(StoreFailed("full"), False), (OSError("full"), False), (ValueError("a mistake"), True)]
)
def test_only_errors_that_may_be_bugs_have_a_traceback(
    health: StoreHealth, caplog: pytest.LogCaptureFixture, error: Exception, is_traced: bool
) -> None:
    health.failed(error)
    (record,) = caplog.records
    assert record.exc_info == ((type(error), error, None) if is_traced else None)
