"""Several servers on one store: each delivers to the workers connected to it, and tells the others what they must know
at once. Nothing here decides anything: a server that misses a hint finds the facts in the store.

``router`` knows who is connected to which server, and sends the engine's messages there; ``hints`` are the messages
between servers, ``peers`` acts on them. The store knows which servers are alive (:mod:`resonate_server.store.sharing`).
"""

from resonate_server.peers.peers import Peers

__all__ = ["Peers"]
