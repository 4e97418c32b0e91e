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
    assert failed.getMessage() == f"cannot store anything, answering requests with 503: {error}"
    assert failed.exc_info == ((type(error), error, None) if is_traced else None)
    assert works.getMessage() == "the store works again"
