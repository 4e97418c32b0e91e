"""Approval: a function waits for a person, for days if need be, and uses no resources meanwhile.

    scripts/example.sh approval

It asks in its log, and names the promise that stands for the answer. Stop it with Ctrl-C or `kill -9`, or everything
with `scripts/down.sh`. Answer whenever you like, whether it is running or not: with the buttons in its row "promise" on
the live page; with the command `resonate` (`docker compose exec resonate-server resonate`, or `.venv/bin/resonate`); or
with curl, where `dHJ1ZQ==` is `true` in base64:

    resonate promises resolve PROMISE --value '{"data": true}'
    curl localhost:8001 -H 'Content-Type: application/json' -d '{"kind": "promise.settle", "head": {"corrId": "1",
        "version": "2026-04-01"}, "data": {"id": "PROMISE", "state": "resolved", "value": {"data": "dHJ1ZQ=="}}}'

Start it again with the same id: it does not ask again, and pays as soon as you have decided.
"""

import logging
from datetime import timedelta

from resonate.context import Context

from worker import Worker, log_run


async def approval(ctx: Context, amount: int = 100) -> str:
    """Pay if a person answers true within thirty days."""
    log_run(ctx)
    decision = ctx.promise(timeout=timedelta(days=30))
    await ctx.run(ask, amount, await decision.id())
    return "paid" if await decision else "refused"


async def ask(ctx: Context, amount: int, promise: str) -> None:
    log_run(ctx)
    logging.info("shall %d be paid? Resolve the promise %s with true or false", amount, promise)


if __name__ == "__main__":
    Worker("example-approval", approval).run()
