"""Answers each request after its commit, and does what falls due as time passes.

The kernel owns the rules, the store the rows; the engine joins them, and tells delivery and observers what was decided.
"""

from resonate_server.engine.engine import Engine
from resonate_server.engine.outbound import Outbound
from resonate_server.store.errors import ReadFailed

__all__ = ["Engine", "Outbound", "ReadFailed"]
