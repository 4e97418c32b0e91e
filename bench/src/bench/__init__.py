"""The benchmark: the stack beside what it is compared with, measured in one run, as ratios.

What is shared: `report` (figures, tables and how they are shown), `stats`, `stack` (the stack as processes), `usage`
(CPU and memory of processes), `cores`, `fsyncs`, `server_metrics`, `machine`, `options`. What is measured: `chain`,
`server`, `overload`, `recovery`, `start`, each a module with a function `measure(...)` that returns a `Report` and a
click `command` around it. What they measure with: `load` and `http_channel` (load on foo), `contenders` and `plain` and
`in_process` (what the stack is compared with), `replay` (load on the server alone). `plots` draws what was saved,
`everything` runs them all, `record` renews what `replay` sends; `cli` is the command line: it finds commands by name.
"""
