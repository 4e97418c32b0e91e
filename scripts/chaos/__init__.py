"""Chaos: chains go through the running stack while its parts are killed, frozen and cut off (`scripts/chaos.sh`).

`plan` decides, from a seed, what is to happen; `ledger` records what did happen, and judges it. Both only compute.
`stack` acts on the stack; `experiment` directs it, calls foo, and shows the progress.
"""
