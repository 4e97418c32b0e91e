"""Clients of foo. Each sends one request, and repeats it with the same key until it has an answer."""

import asyncio
import contextlib
import time

import aiohttp
import msgspec

from chaos.records import SentChain

ATTEMPT_S = 20.0
"""A client that has heard nothing for this long tries again."""
RETRY_PAUSE_S = 0.3
"""The pause before the next attempt after a connection broke."""
MAX_RETRY_AFTER_S = 5.0

_UNAVAILABLE = 503


class _Body(msgspec.Struct):
    message: object = None


class Callers:
    """``began``: the monotonic time that counts as 0."""

    def __init__(self, foo_port: int, began: float) -> None:
        self._url = f"http://127.0.0.1:{foo_port}/foo"
        self._began = began
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=ATTEMPT_S),
        )

    async def close(self) -> None:
        await self._session.close()

    async def call(self, chain: SentChain) -> None:
        """Return once the chain has its answer, right or wrong."""
        chain.sent = time.monotonic() - self._began
        while True:
            chain.attempts += 1
            try:
                again_after = await self._try(chain)
            except (aiohttp.ClientError, TimeoutError, OSError):
                again_after = RETRY_PAUSE_S
            if chain.answered is not None:
                return
            await asyncio.sleep(again_after)

    async def _try(self, chain: SentChain) -> float:
        """Make one attempt. If it brings no answer, return after how many seconds to try again."""
        body = {"pause": chain.pause} if chain.pause else {"running": chain.running} if chain.running else {}
        async with self._session.post(self._url, json=body, headers={"Idempotency-Key": chain.id}) as response:
            text = await response.read()
        if response.status == _UNAVAILABLE:
            return min(float(response.headers.get("Retry-After", RETRY_PAUSE_S)), MAX_RETRY_AFTER_S)
        chain.status = response.status
        with contextlib.suppress(msgspec.MsgspecError):
            chain.message = msgspec.json.decode(text, type=_Body).message
        chain.answered = time.monotonic() - self._began
        return 0
