"""The event loop of a process.

Not of its threads: one that has uvloop's, and goes on while the interpreter ends, has the process end by SIGSEGV.
"""

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed (not on Windows): it does the same with less CPU."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
