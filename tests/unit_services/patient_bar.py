"""bar, sending its spans only at its end, with enough time to do so."""

import os

import bar
from worker import worker

os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "3600000"
worker.SPANS_SECONDS = 60

if __name__ == "__main__":
    bar.main()
