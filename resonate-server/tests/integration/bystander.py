"""A client that measures how long others have to wait while a test strains the server."""

import threading
import time

from harness.server import Client, ServerProcess


class Bystander(threading.Thread):
    """Sends a small request again and again. ``took``: the seconds that each took; ``usual``: their median."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self._client = Client(server.port)
        self._ends = threading.Event()
        self.took: list[float] = []

    def run(self) -> None:
        while not (self.took and self._ends.wait(0.05)):
            began = time.monotonic()
            assert self._client.call("promise.get", id="nobody").status == 404
            self.took.append(time.monotonic() - began)

    def __enter__(self) -> "Bystander":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self.join()

    @property
    def usual(self) -> float:
        return sorted(self.took)[len(self.took) // 2]
