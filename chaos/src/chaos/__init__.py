"""Chaos: chains go through the running stack while its parts are killed, frozen and cut off (`scripts/chaos.sh`).

`plan` decides, from a seed, what is to happen; `records` hold what did happen; `ledger` judges it. These only compute.
`stack`, `callers` and `wrecker` act on the stack; `experiment` directs them, and `display` shows the progress.
"""
