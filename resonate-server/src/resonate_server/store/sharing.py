"""How servers that share a store see and notify one another. A store in a file cannot be shared."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

type Rosters = Mapping[int, bytes]
"""What servers have published, by server number."""

MAX_RING_BYTES = 7_900
"""Limit for one message to the other servers."""


class PeerListener:
    """Hears from other servers. Called on the event loop; must be quick. This base class ignores them."""

    def update_rosters(self, rosters: Rosters) -> None:
        """From now on, these are the other servers."""

    def heard(self, messages: str) -> None:
        """Another server has sent ``messages``: a JSON array of what was given to its :meth:`Sharing.ring`; ``null``
        stands for messages that were lost."""

    def may_have_missed(self) -> None:
        """Messages of other servers may have been lost, or not even sent."""

    def inherits(self, roster: bytes) -> None:
        """A server has died, and this one must find out what became of the workers that were connected to it."""


class Sharing(Protocol):
    """Used on the event loop. A message may be lost, but never unnoticed: see :meth:`PeerListener.may_have_missed`."""

    id: int
    """The number of this server."""
    listener: PeerListener

    @property
    def has_others(self) -> bool:
        """Return whether other servers are known to be at work."""

    def publish(self, roster: bytes) -> None:
        """Show ``roster`` to the other servers from now on, and to the one that inherits it."""

    def ring(self, message: bytes, to: int | None = None, *, is_urgent: bool = True) -> None:
        """Send JSON of up to :data:`MAX_RING_BYTES` to the server ``to``, or to all others, if there are any.

        Nobody waits for a message that is not urgent: it goes with the next one for that server, or a moment later.
        """

    def look(self) -> asyncio.Future[None]:
        """Return a future that is done once the list of servers has been read again."""
