"""Chains replayed against a server alone: the requests of real workers, recorded once, sent again under new ids.

`tap` listens to a real chain, `template` is what is made of that, `machine` knows which request follows from which
answer or message, `player` sends them from a process of its own, `prefill` makes databases with many chains.
"""
