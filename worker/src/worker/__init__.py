"""What the three services share: everything around their functions that makes them a good worker.

    Worker("service-bar", bar).run()

Inside a function, `log_run(ctx)` has the log tell that it runs, and in the end what it came to. A program that only
calls functions uses a `Caller`. One that serves them and has something else to do on its main thread, like foo, makes a
`RunningWorker` from the same `Worker` and its `Settings`.
"""

from worker.caller import Caller
from worker.logs import configure_logging, log_run
from worker.settings import Settings
from worker.worker import RunningWorker, Worker, ending_signals

__all__ = ["Caller", "RunningWorker", "Settings", "Worker", "configure_logging", "ending_signals", "log_run"]
