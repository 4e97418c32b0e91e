"""What services share: everything around their functions that makes them good workers. It knows no particular service.

    Worker("service-bar", bar).run()

Inside a function, `log_run(ctx)` logs that it runs and, at the end, its outcome. A program that only calls functions
uses a `Caller`. One that serves them while its main thread does something else, like foo, makes a `RunningWorker` from
a `Worker` and its `Settings`. With `PlainValues` errors arrive in a test without a server as they do from a `Worker`.
"""

from worker.caller import Caller
from worker.logs import configure_logging
from worker.seams import log_run
from worker.settings import Settings
from worker.values import PlainValues
from worker.worker import RunningWorker, Worker, ending_signals

__all__ = [
    "Caller",
    "PlainValues",
    "RunningWorker",
    "Settings",
    "Worker",
    "configure_logging",
    "ending_signals",
    "log_run",
]
