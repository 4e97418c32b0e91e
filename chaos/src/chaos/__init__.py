"""Chaos: chains go through the running stack while its parts are killed, frozen and cut off (`scripts/chaos.sh`).

`plan` says, by a seed, what is to happen; `records` hold what did happen; `ledger` judges it. These do nothing.
`stack`, `callers` and `wrecker` do things to the stack; `experiment` leads them, and `display` shows how far they are.
"""
