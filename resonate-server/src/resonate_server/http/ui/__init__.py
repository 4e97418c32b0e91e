"""The live page at ``/ui/``: its files, what it asks the server for, and who may see what.

Contract: everything a promise says comes from strangers, so answers are JSON and never markup, the headers forbid the
page whatever it does not need, and ids travel as query parameters.
"""

from resonate_server.http.ui.routes import LINKABLE, add_ui

__all__ = ["LINKABLE", "add_ui"]
