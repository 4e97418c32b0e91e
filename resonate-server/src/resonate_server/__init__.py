"""A Resonate server: durable promises, leased tasks and their delivery, over one HTTP endpoint and one stream.

The layers, from the outside in; each imports only from those below it:

``client``            the command line for any server
``cli``, ``flags``      commands and flags; runs the server
``build``, ``moving``   makes and connects all parts; copies the state from one store to another
``http``              routes, stream framing, limits, status codes
``peers``             other servers that share the store: their workers, and messages to them
``watch``             the live view for people: events, workers, chains
``engine``            turns requests into questions to the store; reports the decisions
``delivery``          connected workers, and which message goes to which
``config``, ``official``, ``metrics``, ``logs``, ``trace``, ``certificates``,
``bounded_connector``                                                           settings, metrics, logs
``store``             rows, and decisions on them in transactions: SQLite, in a file or in memory
``kernel``            every rule of the protocol, without IO
``protocol``          wire types and their validation
"""

__version__ = "0.1.0"
