"""The web interface of foo: Flask under gunicorn, on one event loop with the SDK."""

from foo_web.server import serve

__all__ = ["serve"]
