"""Telling a person that a worker is full: it has a place for each task that it runs, and further ones wait for one."""

import asyncio
import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


async def report_full(taken: Callable[[], int], places: int) -> None:
    """Tell when all are taken, and when no longer. What does not last from one look to the next is not worth a line."""
    told = before = False
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        full = taken() >= places
        if full == before != told:
            told = full
            if full:
                logger.warning("all %d places are taken, further tasks wait for one (see MAX_TASKS)", places)
            else:
                logger.info("not all %d places are taken any more", places)
        before = full
