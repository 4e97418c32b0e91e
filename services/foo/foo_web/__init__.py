"""The web interface of foo: Flask under gunicorn, with the SDK's event loop in a thread beside it."""

from foo_web.server import serve

__all__ = ["serve"]
