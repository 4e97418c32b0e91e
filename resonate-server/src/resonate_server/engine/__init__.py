"""One request in, one answer out after the commit; and what happens by itself as time passes.

Rules are the kernel's, and what becomes of rows is the store's; the engine asks the one about the other, and tells
delivery and whoever watches what was decided.
"""

from resonate_server.engine.engine import Engine, EngineSettings
from resonate_server.engine.outbound import Outbound
from resonate_server.store.errors import ReadFailed

__all__ = ["Engine", "EngineSettings", "Outbound", "ReadFailed"]
