"""Which request of a chain comes next: a state machine per chain, over the steps of its template. No IO, no clock."""

from msgspec import Struct

from bench.replay.template import Message, Template


class Plan(Struct, frozen=True):
    """A template, turned round: what each answer and each message sets free."""

    needs: list[int]
    """How many answers and messages each step waits for."""
    by_answer: list[list[int]]
    by_message: dict[Message, list[int]]
    ends_on: Message | None

    @classmethod
    def of(cls, template: Template) -> "Plan":
        plan = cls(
            needs=[len(step.after) + (step.on is not None) for step in template.steps],
            by_answer=[[] for _ in template.steps],
            by_message={},
            ends_on=template.ends_on,
        )
        for number, step in enumerate(template.steps):
            for earlier in step.after:
                plan.by_answer[earlier].append(number)
            if step.on is not None:
                plan.by_message.setdefault(step.on, []).append(number)
        return plan


class Run:
    """One chain. Each method returns the steps whose requests are to be sent now."""

    def __init__(self, id: str, plan: Plan) -> None:
        self.id = id
        self._plan = plan
        self._needs = plan.needs.copy()
        self._unanswered = len(plan.needs)
        self._heard: set[Message] = set()

    @property
    def is_over(self) -> bool:
        """Whether everything is answered, and the caller was told the result if the recorded one was."""
        return not self._unanswered and (self._plan.ends_on is None or self._plan.ends_on in self._heard)

    def begin(self) -> list[int]:
        return [number for number, need in enumerate(self._needs) if need == 0]

    def answered(self, step: int) -> list[int]:
        self._unanswered -= 1
        return self._free(self._plan.by_answer[step])

    def heard(self, message: Message) -> list[int]:
        """A message may come twice; the second time it says nothing new."""
        if message in self._heard:
            return []
        self._heard.add(message)
        return self._free(self._plan.by_message.get(message, []))

    def _free(self, steps: list[int]) -> list[int]:
        free = []
        for step in steps:
            self._needs[step] -= 1
            if self._needs[step] == 0:
                free.append(step)
        return free
