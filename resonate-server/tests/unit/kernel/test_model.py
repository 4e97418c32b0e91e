"""What counts as something: each member alone does."""

import pytest
from unit.rows import promise, schedule, task

from resonate_server.kernel.model import Changes, DropSpreading, Due, Spreading

SPREADING = (Spreading("p"),)


@pytest.mark.parametrize("nothing", [Due(), Changes()])
def test_nothing(nothing: object) -> None:
    assert not nothing


@pytest.mark.parametrize(
    "something",
    [
        Due(promises=("p",)),
        Due(tasks=("t",)),
        Due(schedules=(schedule("s"),)),
        Due(spreading=SPREADING),
        Changes(promises={"p": promise("p")}),
        Changes(tasks={"t": task("t")}),
        Changes(links=[DropSpreading("p")]),
        Changes(schedules={"s": None}),
    ],
)
def test_something(something: object) -> None:
    assert something
