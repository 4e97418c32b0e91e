"""What tests of several packages share: real processes on free ports, and a plain client of the protocol."""
