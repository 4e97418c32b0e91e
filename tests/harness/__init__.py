"""Helpers shared by the tests of several packages: real processes on free ports, and plain clients of the protocol."""
