"""The whole stack, driven by its scripts, as processes and as containers."""
