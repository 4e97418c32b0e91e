"""The SDK is adapted by workers that run in the process of a test; afterwards it is as it was."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import resonate.core
from resonate.context import Context
from resonate.durable import DurableFunction


@contextmanager
def adaptable_sdk() -> Iterator[pytest.MonkeyPatch]:
    """What is patched meanwhile is undone, too. So are the levels of the SDK's loggers, and filters of handlers."""
    loggers = [logging.getLogger(name) for name in ("resonate", "asyncio")]
    levels = [logger.level for logger in loggers]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resonate.core, "ResonateEffects", vars(resonate.core)["ResonateEffects"])
        patch.setattr(Context, "run", Context.run)
        patch.setattr(DurableFunction, "invoke", DurableFunction.invoke)
        yield patch
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    for handler in logging.getLogger().handlers:
        handler.filters.clear()
