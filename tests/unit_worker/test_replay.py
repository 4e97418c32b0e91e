"""Which step a promise stands for, which steps are equal, and how a difference is described."""

from typing import Any

import pytest

from worker.replay import MAX_SHOWN_CHARACTERS, Step, StepChangedError, is_same, step_of

TARGET = {"resonate:scope": "global", "resonate:target": "poll://any@prices"}


@pytest.mark.parametrize(
    ("tags", "param", "step"),
    [
        ({"resonate:scope": "local"}, None, Step("run")),
        ({"resonate:scope": "global", "resonate:timer": "false"}, None, Step("promise")),
        (TARGET, {"func": "price", "args": None}, Step("rpc", "price", "poll://any@prices", [[], {}, 1])),
        (TARGET, "no call", Step("rpc", "", "poll://any@prices", [[], {}, 1])),
    ],
)
def test_a_promise_that_others_created_yields_a_step(tags: dict[str, str], param: Any, step: Step) -> None:
    assert step_of(tags, param) == step


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        (Step("run"), Step("run", "wrap"), True),
        (Step("run", "pack"), Step("run"), False),
        (Step("run"), Step("sleep"), False),
        (Step("sleep"), Step("run"), False),
        (Step("rpc", "price", "a", [[], {}, 1]), Step("rpc", "price", "a", [[], {}, 2]), False),
        (Step("rpc", "", "a", [[], {}, 1]), Step("rpc", "price", "a", [[], {}, 1]), False),
    ],
)
def test_steps_are_compared_in_everything_that_is_known_of_them(then: Step, now: Step, same: bool) -> None:
    assert is_same(then, now) is same


def test_a_step_is_described_as_its_code() -> None:
    call = Step("rpc", "price", "shop", [["tea", None], {"vat": 2, "of": [1]}, 1])
    assert str(call) == 'rpc price("tea", null, vat=2, of=[1]) to shop'
    assert str(Step("run")) == "run a function"


@pytest.mark.parametrize(("length", "is_whole"), [(MAX_SHOWN_CHARACTERS, True), (MAX_SHOWN_CHARACTERS + 1, False)])
def test_long_arguments_are_cut(length: int, is_whole: bool) -> None:
    text = f'"{"x" * (length - 2)}"'
    shown = text if is_whole else text[: MAX_SHOWN_CHARACTERS - 1] + "…"
    assert str(Step("rpc", "price", "shop", [["x" * (length - 2)], {}, 1])) == f"rpc price({shown}) to shop"


@pytest.mark.parametrize(("id", "told"), [("tea:2.14", "while tea:2 was under way"), ("a.b:1", "while a.b was")])
def test_a_difference_names_the_call(id: str, told: str) -> None:
    assert told in str(StepChangedError("order", id, Step("run", "pack"), Step("sleep")))
