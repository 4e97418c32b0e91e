"""A Resonate server: durable promises, leased tasks and their delivery, over one HTTP endpoint and one stream.

The layers, from the outside in; each imports only what stands below it:

``client``            the command line for any server
``cli``, ``flags``      commands and flags; runs what was built
``build``, ``moving``   makes every part, and joins them; copies a state from one store to another
``http``              routes, stream framing, limits, status codes
``peers``             other servers that share the store: who is connected to them, what they must know
``watch``             what people see of the server, live: events, workers, chains
``engine``            what is asked becomes questions to the store; who is told about the decisions
``delivery``          who is connected and which message goes to whom
``config``, ``official``, ``metrics``, ``logs``, ``trace``, ``memory``, ``certificates``   settings, figures, and such
``store``             rows, and decisions on them in transactions: SQLite, in a file or in memory
``kernel``            every rule of the protocol, without IO
``protocol``          wire types and their validation
"""

__version__ = "0.1.0"
