"""The benchmark: measures the stack side by side with alternatives, in one run, and reports ratios.

The benchmarks are `chain`, `server`, `recovery` and `start`, each a module whose `measure(...)` returns a
`Report`; `cli` has their options. They use `stack` (servers, services and the `plain` chain as processes), `load` (a
process that sends what callers or `workers` send), `rounds` (subjects under loads, in turn), `stage` (a stack on which
faults happen) and `meters`. `report` is what they return, and `plots` draws it.
"""
