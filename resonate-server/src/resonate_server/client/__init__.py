"""The command line tool ``resonate``: inspect a server, and act on it, from a shell. Works with any Resonate server.

It is an ordinary client: of this package it uses only the wire types. Commands, flags and output follow the official
tool.
"""

from resonate_server.client.main import main

__all__ = ["main"]
