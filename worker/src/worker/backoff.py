"""How long to wait before asking the server again."""

import msgspec


class SteadyBackoff(msgspec.Struct, frozen=True):
    """The same pause each time (the SDK's default doubles up to a minute).

    However long the server was away, its workers are back this soon after its return.
    """

    seconds: float

    def delay(self, attempt: int) -> float:  # noqa: ARG002  the SDK's protocol asks for it
        return self.seconds


RECONNECT_SECONDS = 0.5
BACKOFF = SteadyBackoff(RECONNECT_SECONDS)
