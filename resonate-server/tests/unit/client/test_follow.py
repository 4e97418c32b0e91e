"""Which failures are transient, so that a command that follows a chain waits."""

import pytest

from resonate_server.client.follow import is_transient
from resonate_server.client.server_connection import CallFailed


@pytest.mark.parametrize("status", [0, 429, 500, 502, 503, 504])
def test_an_unreachable_busy_or_unready_server_is_waited_for(status: int) -> None:
    assert is_transient(CallFailed("no answer", status))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 501])
def test_a_refusal_is_final_as_is_a_server_that_does_not_know_the_kind(status: int) -> None:
    assert not is_transient(CallFailed("refused", status))
