"""Tracks connected workers and delivers messages to them. Knows promises and tasks only from their messages.

State kept here is a cache of what the store still has to deliver; losing it loses nothing.
"""

from resonate_server.delivery.hub import UNBLOCK_KEPT_S, Hub
from resonate_server.delivery.presence import CHECK_INTERVAL_MS, Pledge, Presence
from resonate_server.delivery.push import Push
from resonate_server.delivery.worker_stream import WorkerStream

__all__ = ["CHECK_INTERVAL_MS", "UNBLOCK_KEPT_S", "Hub", "Pledge", "Presence", "Push", "WorkerStream"]
