"""The live page in a real browser, on the demo as processes."""
