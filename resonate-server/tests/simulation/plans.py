"""What the simulated functions do: random trees of durable calls, and the result that each must have."""

import random
from collections.abc import Iterator
from typing import Literal

import msgspec
from msgspec import Struct, field

GROUPS = ("foo", "bar", "baz")
HANDLED_FAILURE = 10
"""The value that a caller uses for a failed call."""
GIVEN_FROM_OUTSIDE = 5

type StepKind = Literal["rpc", "detached", "local", "sleep", "external"]


class Plan(Struct):
    """A durable function: it takes its steps one after another and returns 1 plus the sum of their values, or fails."""

    group: str
    steps: list["Step"] = field(default_factory=list)
    fails: bool = False


class Step(Struct):
    """``awaited_at_once``: awaited before the next step begins, otherwise at the end. ``ms``: duration of a sleep."""

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
    """Return the result that the function must have; ``None`` if it fails."""
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
    """The id that the SDK gives a child; positions count from 1."""
    return f"{id}{'.' if ':' in id else ':'}{position}"


def external_ids(id: str, plan: Plan) -> Iterator[str]:
    """Yield the promises that an outsider has to resolve."""
    for position, step in enumerate(plan.steps, 1):
        if step.kind == "external":
            yield child_id(id, position)
        elif step.plan is not None:
            yield from external_ids(child_id(id, position), step.plan)


def total_sleep_ms(plan: Plan) -> int:
    """The sum of all sleeps: an upper bound, however they overlap."""
    return sum(step.ms for step in plan.steps if step.kind == "sleep") + sum(
        total_sleep_ms(step.plan) for step in plan.steps if step.plan is not None
    )


def encode_plan(plan: Plan) -> str:
    return msgspec.json.encode(plan).decode()


def decode_plan(text: str) -> Plan:
    return msgspec.json.decode(text, type=Plan)
