"""What a worker promises with its stream."""

import pytest

from resonate_server.http.stream import _back_within_s


@pytest.mark.parametrize(("promised", "seconds"), [("400", 0.4), ("100", 0.1), ("999999", 999.999)])
def test_so_many_ms(promised: str, seconds: float) -> None:
    assert _back_within_s(promised) == seconds


@pytest.mark.parametrize("promised", ["", "0", "99", "-1", "0.5", "1e3", "soon", "9" * 7, "٤٠٠", "²²²"])
def test_what_cannot_be_kept_counts_for_nothing(promised: str) -> None:
    assert _back_within_s(promised) is None
