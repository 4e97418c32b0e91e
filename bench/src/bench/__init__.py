"""The benchmark: the stack beside what it is compared with, measured in one run, as ratios.

What is measured: `chain`, `server`, `overload`, `recovery`, `start`, each a module whose `measure(...)` returns a
`Report`; `cli` gives them their options. With what: `stack` (servers, services and the `plain` chain as processes),
`load` (a process that sends what callers or `workers` send), `rounds` (subjects under loads, in turns), `stage` (a
stack on which faults happen), `meters`. `report` is what they hand back, and `plots` draws it.
"""
