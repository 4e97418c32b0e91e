"""Databases with very many chains in them, made without a server: copies of one real chain under other ids.

The chain is replayed once against a server of ours on an empty file; the rows that it leaves there are the model of
all. They are written through the store, in the order of their ids and many to a transaction.
"""

import random
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.replay.player import Play, play
from bench.replay.template import ROOT, Template
from bench.stack import OwnServer
from resonate_server.kernel.model import Changes, PutCallback, PutListener, Task
from resonate_server.protocol.records import Promise
from resonate_server.store.sqlite import Database

CHAINS_PER_TRANSACTION = 2_000


class Model(Struct, frozen=True):
    """What one chain leaves in the database, with a placeholder where its root's id stands."""

    promises: list[Promise]
    tasks: list[Task]
    callbacks: list[PutCallback]
    listeners: list[PutListener]

    def under(self, ids: list[str]) -> Changes:
        """The rows of so many chains with these roots."""
        changes = Changes()
        text = msgspec.json.encode(self)
        for id in ids:
            rows = msgspec.json.decode(text.replace(ROOT.encode(), id.encode()), type=Model)
            changes.promises.update((promise.id, promise) for promise in rows.promises)
            changes.tasks.update((task.id, task) for task in rows.tasks)
            changes.links += [*rows.callbacks, *rows.listeners]
        return changes


def model_of(template: Template, folder: Path, seed: int) -> Model:
    """Replay one chain of ``template`` in ``folder``, which must not hold a database yet."""
    server = OwnServer(folder)
    try:
        play(Play(server.start().url, template, connections=1, seconds=0, seed=seed, in_flight=1))
    finally:
        server.close()
    database = Database(server.db)
    rows = database.snapshot()
    database.close()
    model = Model(rows.promises, rows.tasks, rows.callbacks, rows.listeners)
    root = min((promise.id for promise in model.promises), key=len)
    return msgspec.json.decode(msgspec.json.encode(model).replace(root.encode(), ROOT.encode()), type=Model)


def fill(path: Path, model: Model, chains: int, seed: int) -> None:
    """Write so many chains into the database ``path``, which is made where it is missing."""
    chance = random.Random(seed)
    ids = sorted(f"foo-{chance.getrandbits(64):016x}" for _ in range(chains))
    database = Database(path, "NORMAL")
    for begin in range(0, chains, CHAINS_PER_TRANSACTION):
        database.write(model.under(ids[begin : begin + CHAINS_PER_TRANSACTION]))
        database.flush()
        database.commit()
    database.close()
