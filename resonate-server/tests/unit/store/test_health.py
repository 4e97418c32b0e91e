"""Whether the store is writable, and how that is reported."""

import logging

import pytest

from resonate_server.store.errors import StoreFailed
from resonate_server.store.health import StoreHealth


@pytest.mark.parametrize(
    ("error", "is_traced"), [(StoreFailed("full"), False), (OSError("full"), False), (ValueError("a mistake"), True)]
)
def test_trouble_is_logged_once_and_so_is_its_end_and_only_what_may_be_a_bug_has_a_traceback(
    caplog: pytest.LogCaptureFixture, error: Exception, is_traced: bool
) -> None:
    caplog.set_level(logging.INFO)
    health = StoreHealth()
    for _ in range(3):
        health.failed(error)
    assert health.trouble == str(error)
    for _ in range(3):
        health.worked()
    assert health.trouble == ""
    failed, works = caplog.records
    assert failed.getMessage() == f"cannot store anything now: {error}"
    assert failed.exc_info == ((type(error), error, None) if is_traced else None)
    assert works.getMessage() == "the store works again"


def test_a_trouble_that_comes_and_goes_is_not_logged_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """As on a full disk, where small things may still find room."""
    caplog.set_level(logging.INFO)
    health = StoreHealth()
    for number in range(5):
        health.failed(StoreFailed(f"no room for file {number}"))
        health.worked()
    health.failed(StoreFailed("it has gone away"))

    logged = [record.getMessage().rpartition(": ")[2] for record in caplog.records]
    assert logged == ["no room for file 0", "the store works again", "it has gone away"]
