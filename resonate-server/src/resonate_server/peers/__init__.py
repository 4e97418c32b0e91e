"""Several servers on one store: each delivers to the workers that are connected to it, and tells the others what they
must know at once. Nothing in here decides anything: what a server was not told, it finds in the store.

``rosters`` knows who is connected to whom, ``router`` sends the engine's messages there, ``hints`` are what servers
ring to one another, ``peers`` does what it is told. Which servers live, the store knows
(:mod:`resonate_server.store.sharing`).
"""

from resonate_server.peers.peers import Peers

__all__ = ["Peers"]
