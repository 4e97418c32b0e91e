"""Who is connected, and which message goes to whom. Knows nothing of promises and tasks but their messages.

State in here is a cache of what the store owes: losing it loses nothing.
"""

from resonate_server.delivery.connection import Connection
from resonate_server.delivery.hub import UNBLOCK_KEPT_S, Hub
from resonate_server.delivery.outbound import Outbound
from resonate_server.delivery.presence import Presence
from resonate_server.delivery.push import Push

__all__ = ["UNBLOCK_KEPT_S", "Connection", "Hub", "Outbound", "Presence", "Push"]
