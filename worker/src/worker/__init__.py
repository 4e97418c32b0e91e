"""What the three services share: everything around their functions that makes them a good worker.

    Worker("service-bar", bar).run()

connects to the server, reconnects when the server was away, keeps a health file, and on SIGTERM gives back
what it holds. Inside a function, `log_run(ctx)` prints that it runs.
"""

from worker.logs import log_run
from worker.worker import Worker

__all__ = ["Worker", "log_run"]
