"""Makes large blocks of memory go back to the system when they are freed.

glibc maps a large block by itself, and unmaps it when it is freed. But each such free raises the threshold for this, up
to 32 MiB: after the first payload of 4 MiB the next ones come from heaps, one per thread, which keep the gaps between
blocks.
"""

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3
LARGE_BYTES = 256 * 1024


def return_large_blocks() -> None:
    """Fix the threshold at :data:`LARGE_BYTES`. Does nothing without glibc."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
