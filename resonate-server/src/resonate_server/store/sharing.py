"""What servers that share a store know of one another, see :class:`Sharing`; a store in a file is nobody else's."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

type Rosters = Mapping[int, bytes]
"""Of servers, by their numbers: what they have published."""

MAX_RING_BYTES = 7_900
"""Of one message to all others."""


class Neighbour(Protocol):
    """Who wants to know of other servers. Called on the event loop; must be quick."""

    def others_are(self, rosters: Rosters) -> None:
        """So they are from now on."""

    def heard(self, messages: str) -> None:
        """Another server has rung: a JSON array of what it was given, see :meth:`Sharing.ring`."""

    def may_have_missed(self) -> None:
        """Something that was rung, or that would have been."""

    def inherits(self, roster: bytes) -> None:
        """A server has died: it is for this one to find out what becomes of those who were connected to it."""


class Alone(Neighbour):
    """Nobody who wants to know."""

    def others_are(self, rosters: Rosters) -> None:
        pass

    def heard(self, messages: str) -> None:
        pass

    def may_have_missed(self) -> None:
        pass

    def inherits(self, roster: bytes) -> None:
        pass


class Sharing(Protocol):
    """Used on the event loop. A message may be lost, but not unnoticed: see :meth:`Neighbour.may_have_missed`."""

    id: int
    """Number of this server."""
    neighbour: Neighbour

    @property
    def has_others(self) -> bool:
        """Whether other servers are at work, as far as is known."""

    def publish(self, roster: bytes) -> None:
        """Let the others see this of us from now on, and whoever inherits it."""

    def ring(self, message: bytes) -> None:
        """Tell all others, soon: JSON of up to :data:`MAX_RING_BYTES`. Nothing is sent if there are none."""

    def mention(self, message: bytes) -> None:
        """The same for what nobody waits for: with what is rung next, or after a moment."""

    def look(self) -> asyncio.Future[None]:
        """Done when the others are known as they are after now."""
