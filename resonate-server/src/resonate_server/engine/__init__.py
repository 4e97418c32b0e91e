"""One request in, one answer out after the commit; and what happens by itself as time passes.

Between the event loop and the store stands one thread: it takes what has queued up, decides it in one transaction
(group commit), and only after the commit hands answers and messages back to the loop.
"""

from resonate_server.engine.engine import Engine, EngineSettings, ReadFailed
from resonate_server.engine.work import Outbound

__all__ = ["Engine", "EngineSettings", "Outbound", "ReadFailed"]
