"""Telling a person that a function blocks the event loop: then heartbeats stay out, and the task's lease is lost."""

import asyncio
import logging
import time

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5


async def report_blocking(lease_seconds: float) -> None:
    """Warn whenever the loop stood still for so long that leases are in danger. Runs until it is cancelled."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(LOOK_SECONDS)
        blocked = time.monotonic() - began - LOOK_SECONDS
        if blocked > lease_seconds / 2:
            logger.warning(
                "a function has blocked this process for %.1f s; leases last %.0f s, and blocked heartbeats lose them: "
                "use `await asyncio.sleep(...)`, or `await asyncio.to_thread(...)` for work that blocks",
                blocked,
                lease_seconds,
            )
