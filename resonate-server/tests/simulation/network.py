"""The simulated network: it delays, loses, duplicates and reorders; streams break, and an end may notice late."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from simulation.run import Run

from resonate_server.protocol.answers import Answer
from resonate_server.protocol.messages import Execute, Message

if TYPE_CHECKING:
    from simulation.server import Cluster, Server
    from simulation.worker import Worker

NOTICE_S = 25.0
"""Longest time until the server finds that a peer is gone: a keep-alive interval plus the write timeout."""

PATIENCE_S = 15.0
"""Longest wait for an answer."""

SILENCE_S = 6.0
"""How long a stream may stay silent before its worker gives it up."""

LATEST_COPY_S = 20.0
"""Longest time by which a duplicate may arrive after the original."""


WEATHER: dict[str, tuple[float, ...]] = {
    "lost request": (0, 0.01, 0.1),
    "lost answer": (0, 0.01, 0.1),
    "doubled request": (0, 0.02, 0.2),
    "lost message": (0, 0.05, 0.3),
    "doubled message": (0, 0.05, 0.3),
    "delay": (0.01, 0.1, 1.0),
    "thinking": (0, 0.5, 3.0),
}
"""How bad the network of a run may be: the probability of each mishap, the longest delay, and the longest time that
user code takes for a step (both in seconds). One of each is drawn."""


class Stream:
    """A worker's open stream. :meth:`cut` breaks it; each end notices in its own time."""

    def __init__(self, network: "Network", server: "Server", receiver: "Worker") -> None:
        self.group = receiver.group
        self.pid = receiver.pid
        self.ended = asyncio.Event()
        self._network = network
        self._server = server
        self._receiver = receiver
        self._cut = False

    def write(self, message: Message) -> None:
        """Messages may overtake each other; one written to a cut stream is lost."""
        run, weather = self._network.run, self._network.weather
        if self._cut or run.happens(weather["lost message"]):
            run.happened["message lost"] += 1
            return
        self._deliver(message, self._network.delay())
        if run.happens(weather["doubled message"]):
            run.happened["message doubled"] += 1
            self._deliver(message, self._network.delay_of_copy())

    def _deliver(self, message: Message, delay: float) -> None:
        self._network.run.happened["execute" if isinstance(message, Execute) else "unblock"] += 1
        self._network.run.later(delay, self._receiver.receive, message)

    def end(self) -> None:
        """Called when the server has ended the stream."""
        self._cut = True
        self._network.run.later(self._network.delay(), self.ended.set)

    def cut(self) -> None:
        run = self._network.run
        run.happened["stream broken"] += 1
        self._cut = True
        run.later(run.rng.random() * 2, self.ended.set)
        run.later(run.rng.random() * run.rng.choice((0.1, NOTICE_S)), self._server.lose, self)


class Network:
    """Connects workers with whichever servers are up."""

    def __init__(self, run: Run, cluster: "Cluster") -> None:
        self.run = run
        self.weather = {name: run.rng.choice(options) for name, options in WEATHER.items()}
        self._cluster = cluster

    def delay(self) -> float:
        return self.run.rng.random() * (0.01 if self.run.calm else self.weather["delay"])

    def delay_of_copy(self) -> float:
        """A duplicate may come very late."""
        return self.run.rng.random() * self.run.rng.choice((self.weather["delay"], LATEST_COPY_S))

    async def connect(self, receiver: "Worker") -> Stream:
        """Open a stream. Raises ``ConnectionError`` if no server answers."""
        await asyncio.sleep(self.delay())
        server = self._server_or_refusal()
        if server.is_still:
            await asyncio.sleep(SILENCE_S)
            raise ConnectionError("no answer")
        stream = Stream(self, server, receiver)
        server.connect(stream, seconds=self.run.rng.choice((10.0, 60.0, 240.0)))
        return stream

    async def call(self, body: bytes) -> Answer:
        """Send a request. Raises ``ConnectionError`` if it or its answer is lost: the caller cannot know which."""
        await asyncio.sleep(self.delay())
        if self.run.happens(self.weather["lost request"]):
            self.run.happened["request lost"] += 1
            raise ConnectionError("the request was lost")
        if self.run.happens(self.weather["doubled request"]):
            self.run.happened["request doubled"] += 1
            self.run.later(self.delay_of_copy(), self._deliver_copy, body)
        answer = await self._answer(body)
        await asyncio.sleep(self.delay())
        if self.run.happens(self.weather["lost answer"]):
            self.run.happened["answer lost"] += 1
            raise ConnectionError("the answer was lost")
        return answer

    async def _answer(self, body: bytes) -> Answer:
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await self._server_or_refusal().accept(body)
        except TimeoutError:
            self.run.happened["no answer"] += 1
            raise ConnectionError("no answer") from None
        if answer.status == 503:
            self.run.happened["answered 503"] += 1
            raise ConnectionError(answer.data)
        return answer

    def _deliver_copy(self, body: bytes) -> None:
        """Deliver a duplicate, whose answer is ignored."""
        with suppress(ConnectionError):
            self._server_or_refusal().accept(body)

    def _server_or_refusal(self) -> "Server":
        living = [server for server in self._cluster.servers if server.alive]
        if not living:
            raise ConnectionError("connection refused")
        return living[0] if len(living) == 1 else self.run.rng.choice(living)
