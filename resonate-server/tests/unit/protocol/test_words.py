"""Times as people read them."""

import pytest

from resonate_server.protocol.words import duration

DURATIONS = {
    -5: "0 ms",
    999: "999 ms",
    1_240: "1.2 s",
    59_949: "59.9 s",
    59_999: "1 min",
    61_000: "1 min 1 s",
    99_990: "1 min 40 s",
    3_600_000: "1 h",
    7_500_000: "2 h 5 min",
    90_000_000: "1 d 1 h",
}


@pytest.mark.parametrize(("ms", "words"), DURATIONS.items(), ids=DURATIONS.values())
def test_durations_have_two_units_at_most(ms: int, words: str) -> None:
    assert duration(ms) == words
