"""What the simulated functions do: random trees of durable calls, and what each must come to."""

import random
from collections.abc import Iterator
from typing import Literal

import msgspec
from msgspec import Struct, field

GROUPS = ("foo", "bar", "baz")
HANDLED_FAILURE = 10
"""What a caller makes of a call that failed."""
GIVEN_FROM_OUTSIDE = 5

type StepKind = Literal["rpc", "detached", "local", "sleep", "external"]


class Plan(Struct):
    """A durable function: it makes its steps one after another and returns 1 plus what they come to, or fails."""

    group: str
    steps: list["Step"] = field(default_factory=list)
    fails: bool = False


class Step(Struct):
    """``awaited_at_once``: before the next step is begun; otherwise at the end. ``ms``: how long a sleep takes."""

    kind: StepKind
    plan: Plan | None = None
    ms: int = 0
    awaited_at_once: bool = False


def random_plan(rng: random.Random, depth: int = 0) -> Plan:
    group = GROUPS[min(depth, 2)] if rng.random() < 0.7 else rng.choice(GROUPS)
    if depth == 3:
        return Plan(group, fails=rng.random() < 0.2)
    most = 1 if depth == 0 and rng.random() < 0.5 else 3
    steps = [random_step(rng, depth) for _ in range(rng.randint(0 if depth else 1, most))]
    return Plan(group, steps, fails=rng.random() < 0.1)


def random_step(rng: random.Random, depth: int) -> Step:
    kind = rng.choices(("rpc", "detached", "local", "sleep", "external"), (6, 1, 2, 2, 1))[0]
    plan = random_plan(rng, depth + 1) if kind in ("rpc", "detached") else None
    return Step(kind, plan, ms=rng.choice((10, 1_000, 12_000)), awaited_at_once=rng.random() < 0.4)  # type: ignore[arg-type]


def outcome(plan: Plan) -> int | None:
    """What it must return; ``None`` if it fails."""
    return None if plan.fails else 1 + sum(map(step_outcome, plan.steps))


def step_outcome(step: Step) -> int:
    match step.kind:
        case "rpc":
            assert step.plan is not None
            value = outcome(step.plan)
            return HANDLED_FAILURE if value is None else value
        case "local":
            return 1
        case "external":
            return GIVEN_FROM_OUTSIDE
    return 0


def child_id(id: str, position: int) -> str:
    """As the SDK names it, counting from 1."""
    return f"{id}{'.' if ':' in id else ':'}{position}"


def external_ids(id: str, plan: Plan) -> Iterator[str]:
    """Promises that somebody outside has to resolve."""
    for position, step in enumerate(plan.steps, 1):
        if step.kind == "external":
            yield child_id(id, position)
        elif step.plan is not None:
            yield from external_ids(child_id(id, position), step.plan)


def total_sleep_ms(plan: Plan) -> int:
    """All sleeps one after another: longer than any order of them."""
    return sum(step.ms for step in plan.steps if step.kind == "sleep") + sum(
        total_sleep_ms(step.plan) for step in plan.steps if step.plan is not None
    )


def encode_plan(plan: Plan) -> str:
    return msgspec.json.encode(plan).decode()


def decode_plan(text: str) -> Plan:
    return msgspec.json.decode(text, type=Plan)
