"""The system's certificates, which take their time to load: they are loaded when somebody is asked by https.

aiohttp loads them twice as it is imported, which takes a sixth of the server's start. So its own contexts stay without
them, and whoever sends a request says which one counts.
"""

import ssl
from functools import cache


def import_aiohttp() -> None:
    """To be called before anybody else imports it."""
    ssl.SSLContext.set_default_verify_paths = lambda _: None  # type: ignore[assignment, method-assign]
    try:
        import aiohttp.connector  # noqa: F401
    finally:
        del ssl.SSLContext.set_default_verify_paths  # the base class has it


def context_for(url: str) -> ssl.SSLContext | bool:
    """What aiohttp takes as ``ssl`` of a request."""
    return _with_certificates() if url.lower().startswith("https:") else True


@cache
def _with_certificates() -> ssl.SSLContext:
    return ssl.create_default_context()
