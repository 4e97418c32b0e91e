"""Loads the system's certificates, which is slow, only for the first HTTPS request.

aiohttp loads them twice when it is imported, which takes a sixth of the server's start. So its own contexts have none,
and each request passes the context to use.
"""

import ssl
from functools import cache


def import_aiohttp() -> None:
    """Import aiohttp without certificates. Call before anything else imports it."""
    ssl.SSLContext.set_default_verify_paths = lambda _: None  # type: ignore[assignment, method-assign]
    try:
        import aiohttp.connector  # noqa: F401
    finally:
        del ssl.SSLContext.set_default_verify_paths  # the base class has it


def context_for(url: str) -> ssl.SSLContext | bool:
    """Return the ``ssl`` argument for an aiohttp request."""
    return _with_certificates() if url.lower().startswith("https:") else True


@cache
def _with_certificates() -> ssl.SSLContext:
    return ssl.create_default_context()
