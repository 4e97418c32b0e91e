"""Checks that a function takes the same steps whenever it runs. To continue, it runs from its top again, and its steps
are identified by position alone: another step at the same position would be given the first one's result.

So every step that a function asks for is compared with the promise that exists under its id: kind, function, target
and arguments. (Not the duration of a sleep: its deadline was fixed when it began.) A difference ends the attempt. The
task is released, offered again after growing pauses, and completes once matching code is deployed.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from resonate.error import ResonateError

FUNCTION_TAG: Final = "worker:function"
"""The tag for the function of a local step, whose promise has no parameter that names it."""

MAX_SHOWN_CHARACTERS: Final = 80

type Kind = Literal["run", "rpc", "sleep", "promise"]


class Step(msgspec.Struct, frozen=True):
    """A step that a function asked for. `function` and `target` are empty if unknown, or if the kind has none."""

    kind: Kind
    function: str = ""
    target: str = ""
    arguments: Any = None

    def __str__(self) -> str:
        match self.kind:
            case "run":
                return f"run {self.function or 'a function'}"
            case "rpc":
                return f"rpc {self.function}({_shown(self.arguments)}) to {self.target}"
        return self.kind


class StepChangedError(ResonateError):
    """The code asks for another step than before: it has changed, or is not deterministic."""

    def __init__(self, caller: str, id: str, then: Step, now: Step) -> None:
        parent, position = re.split("[:.](?=[^:.]*$)", id)
        super().__init__(
            f"the code of {caller} changed while {parent} was under way, or is not deterministic: "
            f"step {position} was {then}, it is {now} now; the call completes once the code matches again"
        )


def step_of(tags: Mapping[str, str], param: Any) -> Step:
    if tags.get("resonate:scope") == "local":
        return Step("run", function=tags.get(FUNCTION_TAG, ""))
    if tags.get("resonate:timer") == "true":
        return Step("sleep")
    if "resonate:target" not in tags:
        return Step("promise")
    call = param if isinstance(param, dict) else {}
    arguments = [call.get("args") or [], call.get("kwargs") or {}, call.get("version", 1)]
    return Step("rpc", str(call.get("func", "")), tags["resonate:target"], arguments)


def is_same(then: Step, now: Step, call: Any = None) -> bool:
    """Compare two steps. A step recorded before functions were named matches any function.

    `call`: what `now` calls, not encoded yet, because each process has its own order for the strings of a set.
    """
    if then.kind == now.kind == "run":
        return then.function in ("", now.function)
    if then == now or call is None or msgspec.structs.replace(now, arguments=then.arguments) != then:
        return then == now
    try:
        return _is_like(then.arguments, [call.args, call.kwargs, call.version])
    except TypeError:  # it holds an object that only the SDK can encode
        return False


def _is_like(then: Any, now: Any) -> bool:
    match now:
        case set() | frozenset():
            return isinstance(then, list) and sorted(map(_json, then)) == sorted(map(_json, now))
        case list() | tuple():
            return isinstance(then, list) and len(then) == len(now) and all(map(_is_like, then, now))
        case dict():
            return isinstance(then, dict) and then.keys() == now.keys() and all(_is_like(then[k], now[k]) for k in now)
    return _json(then) == _json(now)


def _shown(arguments: Any) -> str:
    args, kwargs, _ = arguments
    texts = [*map(_json, args), *(f"{name}={_json(value)}" for name, value in kwargs.items())]
    text = ", ".join(texts)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
