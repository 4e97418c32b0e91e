"""Deliveries written in words: ``+w1 +w2 a>uni/w1 w1! | w2=``. No assertions.

``+w1`` connects a worker, ``w1!`` loses it, ``w1?`` reads its messages, ``w1:closed`` closes its stream; ``w1:silent``,
``w1:heard`` and ``w1:busy`` are news of it. ``a`` is a task for any worker, ``a>uni/w2`` one for that address, ``-a``
its claim; ``p@uni/w2`` is a result. ``5s`` passes time, ``round`` is the hub's regular work, and ``reset`` empties hub
and store.
After the bar: the messages left for each worker at the end, and what the hub has told its owner: ``aside=w1:a``, tasks
that a worker did not claim, and ``delivered=p``, results that were surely read.
"""

import re

from unit.hubs import Clock, Scene, execute, received, unblock

from resonate_server.delivery import WorkerStream
from resonate_server.delivery.presence import SILENT_MS


async def play(story: str, scene: Scene, clock: Clock) -> str:
    """Return the end of the story as it really is."""
    workers: dict[str, WorkerStream] = {}
    steps, _, end = story.partition(" | ")
    for step in steps.split():
        match re.split("([!?:>@])", step.lstrip("+-"))[:3]:
            case ["later"]:
                scene.now += SILENT_MS
            case ["round"]:
                scene.hub.run_round()
            case ["reset"]:
                scene.owed.clear()
                scene.hub.reset()
            case [seconds] if re.fullmatch("[0-9.]+s", seconds):
                clock.seconds += float(seconds[:-1])
            case [name] if step.startswith("+"):
                workers[name] = scene.worker(name)
            case [name] if step.startswith("-"):
                scene.claim(name)
            case [name]:
                scene.send(execute(name))
            case [name, ">" | "@" as sign, address]:
                kind, slash, id = address.partition("/")
                send = execute if sign == ">" else unblock
                scene.send(send(name, f"poll://{kind}@workers{slash}{id}"))
            case [name, "!", _]:
                scene.hub.disconnect(workers[name], planned=False)
            case [name, "?", _]:
                await received(workers[name])
            case [name, ":", "closed"]:
                workers[name].close()
            case [name, ":", "silent"]:
                scene.hub.fell_silent("workers", name)
            case [name, ":", "heard"]:
                scene.hub.heard_from(name)
            case [name, ":", "busy"]:
                scene.hub.is_at_work("workers", name)
    names = [each.partition("=")[0] for each in end.split()]
    return " ".join([f"{name}={','.join(await seen(name, workers, scene))}" for name in names])


async def seen(name: str, workers: dict[str, WorkerStream], scene: Scene) -> list[str]:
    match name:
        case "aside":
            return [f"{pid}:{id}" for pid, ids in scene.set_aside for id in ids]
        case "delivered":
            return scene.delivered_unblocks
    return await received(workers[name])
