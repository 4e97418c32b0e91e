"""What foo, bar and baz ask the Resonate server during one chain, one request after the other.

The requests are those of workers on any SDK, and of ours when half of their places are taken; otherwise a quick call
takes fewer. Heartbeats are left out: a worker sends one for all its tasks, every few seconds.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.load import Workers

FOO, BAR, BAZ = GROUPS = ("service-foo", "service-bar", "service-baz")
LEASE_MS = 10_000
FAR_MS = 4_102_444_800_000
"""A deadline that is never reached: 2100-01-01."""
RESULTS = {FOO: "Mw==", BAR: "Mg==", BAZ: "MQ=="}
"""3, 2 and 1, as workers encode them."""
CALL = "eyJhcmdzIjpbMC4wLDAuMF0sImt3YXJncyI6e30sImZ1bmMiOiJiYXIiLCJ2ZXJzaW9uIjoxfQ=="
"""A function's name and arguments; the server does not look into it."""


class ChainPlayer:
    """Plays one chain, once."""

    def __init__(self, id: str, server: "Workers") -> None:
        self._foo, self._bar, self._baz = id, f"{id}:1", f"{id}:1.1"
        self._server = server

    async def play(self) -> None:
        """Play the chain until foo learns of its end."""
        await self._begin()
        await self._suspend(self._bar, 1, self._baz)
        await self._run(self._baz, 0, BAZ)
        await self._run(self._bar, 1, BAR)
        await self._run(self._foo, 1, FOO)
        await self._server.wait_for(self._foo, None)

    async def play_until_it_pauses(self) -> None:
        """Play the chain until foo waits for bar, and bar for a timer."""
        await self._begin()
        timer = f"{self._bar}.2"
        await self._fence(self._bar, self._creation(timer, BAR, self._bar, timer="true"))
        await self._suspend(self._bar, 1, self._baz, timer)
        await self._run(self._baz, 0, BAZ)
        await self._acquire(self._bar, 1, BAR)
        await self._suspend(self._bar, 2, timer)

    async def _begin(self) -> None:
        """Play the chain until bar has called baz."""
        foo, bar, pid = self._foo, self._bar, self._server.pid(FOO)
        await self._ask("task.create", pid=pid, ttl=LEASE_MS, action=self._creation(foo, FOO, foo))
        await self._ask("promise.register_listener", awaited=foo, address=f"poll://uni@{FOO}/{pid}")
        await self._fence(foo, self._creation(bar, BAR, foo))
        await self._suspend(foo, 1, bar)
        await self._acquire(bar, 0, BAR)
        await self._fence(bar, self._creation(self._baz, BAZ, bar))

    async def _fence(self, id: str, action: Any) -> None:
        await self._ask("task.fence", id=id, version=1, action=action)

    async def _run(self, id: str, version: int, group: str) -> None:
        await self._acquire(id, version, group)
        settlement = {"id": id, "state": "resolved", "value": {"data": RESULTS[group]}}
        await self._ask("task.fulfill", id=id, version=version + 1, action=_action("promise.settle", settlement))

    async def _acquire(self, id: str, version: int, group: str) -> None:
        await self._server.wait_for(id, version)
        await self._ask("task.acquire", id=id, version=version, pid=self._server.pid(group), ttl=LEASE_MS)

    async def _suspend(self, id: str, version: int, *awaited: str) -> None:
        callbacks = [_action("promise.register_callback", {"awaited": each, "awaiter": id}) for each in awaited]
        await self._ask("task.suspend", id=id, version=version, actions=callbacks)

    async def _ask(self, kind: str, **data: Any) -> None:
        await self._server.ask(self._foo, kind, data)

    def _creation(self, id: str, group: str, parent: str, **more: str) -> dict[str, Any]:
        tags = {"scope": "global", "target": f"poll://any@{group}", "branch": id, "parent": parent, "origin": self._foo}
        named = {f"resonate:{name}": value for name, value in (tags | more).items()}
        param = {"data": CALL} if not more else {}
        return _action("promise.create", {"id": id, "timeoutAt": FAR_MS, "param": param, "tags": named})


def _action(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "head": {"corrId": f"sr-{0:032x}", "version": "2026-04-01"}, "data": data}
