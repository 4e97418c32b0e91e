"""The live page at ``/ui/``: its files, the API it uses, and access control.

Contract: the contents of promises are untrusted. So answers are JSON and never markup, the headers forbid the page
everything it does not need, and ids are passed as query parameters.
"""

from resonate_server.http.ui.routes import LINKABLE, add_ui

__all__ = ["LINKABLE", "add_ui"]
