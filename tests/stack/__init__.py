"""The stack as a whole, driven by its scripts, as processes and as containers."""
