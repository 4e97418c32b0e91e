"""What a worker promises with its stream."""

import pytest

from resonate_server.http.stream import _ms


@pytest.mark.parametrize("promised", ["400", "100", "999999"])
def test_a_promise_is_a_number_of_ms(promised: str) -> None:
    assert _ms(promised) == int(promised)


@pytest.mark.parametrize("promised", ["", "0", "99", "-1", "0.5", "1e3", "soon", "9" * 7, "٤٠٠", "²²²"])
def test_an_invalid_promise_is_ignored(promised: str) -> None:
    assert _ms(promised) is None
