"""The benchmark: the stack beside what it is compared with, measured in one run, as ratios.

What is shared: `report` (figures, tables and how they are shown), `stats`, `stack` (the stack as processes), `usage`
(CPU and memory of processes), `machine`, `options`. What is measured: `chain`, `server`, `overload`, `recovery`,
`start`, a module or package each, with a function `measure(...)` that returns a `Report` and a click `command` around
it (`options.reporting`). `plots` draws what was saved; `cli` is the command line, which finds the commands by name.
"""
