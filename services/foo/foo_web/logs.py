"""A line of the log for each request; and gunicorn's own lines among all others."""

import logging
import time
from typing import override

from flask import Flask, Response, g, request
from gunicorn.config import Config
from gunicorn.glogging import Logger

logger = logging.getLogger(__name__)

MAX_SHOWN_CHARACTERS = 128
"""Of a path or an id: the longest id that a chain can have."""


class GunicornLogger(Logger):
    """Leaves its records to the handlers of the program."""

    @override
    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        for own in (self.error_log, self.access_log):
            own.handlers.clear()
            own.propagate = True


def log_requests(app: Flask) -> None:
    """But those for health, which come all the time. To be called before other hooks are added."""

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()

    @app.after_request
    def tell(response: Response) -> Response:
        if request.path != "/health":
            path, id = request.path[:MAX_SHOWN_CHARACTERS], g.get("chain_id", "-")[:MAX_SHOWN_CHARACTERS]
            seconds = time.monotonic() - g.began
            line = "%s %s  id=%s  status=%d  seconds=%.3f"
            logger.info(line, request.method[:MAX_SHOWN_CHARACTERS], path, id, response.status_code, seconds)
        return response
