"""Real processes on free ports, and plain clients of the protocol, shared by the tests of several packages."""
