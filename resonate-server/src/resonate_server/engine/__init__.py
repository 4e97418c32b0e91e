"""Turns a request into an answer after its commit, and does what falls due as time passes.

The kernel owns the rules and the store the rows; the engine puts the kernel's questions to the store, and tells
delivery and observers what was decided.
"""

from resonate_server.engine.engine import Engine, EngineSettings
from resonate_server.engine.outbound import Outbound
from resonate_server.store.errors import ReadFailed

__all__ = ["Engine", "EngineSettings", "Outbound", "ReadFailed"]
