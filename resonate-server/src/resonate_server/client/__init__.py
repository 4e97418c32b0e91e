"""The command line tool ``resonate``: look into a server, and act on it, from a shell. Works with any Resonate server.

It is a client like any other: of this package it uses the wire types alone. Commands, flags and output follow the
official tool.
"""

from resonate_server.client.main import main

__all__ = ["main"]
