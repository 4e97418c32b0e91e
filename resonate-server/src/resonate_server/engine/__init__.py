"""One request in, one answer out after the commit; and what happens by itself as time passes.

What has queued up while the last transaction was written is decided in the next one (group commit), and only after
the commit answers and messages go out.
"""

from resonate_server.engine.engine import Engine, EngineSettings, ReadFailed
from resonate_server.engine.work import Outbound

__all__ = ["Engine", "EngineSettings", "Outbound", "ReadFailed"]
