"""Side-by-side measurements of corepy and other DNS servers on loopback: `python -m benchmarks`.

`benchmarks.cases` defines the measurements, `benchmarks.servers` the servers, `benchmarks.runner`
the method. Times are never asserted; a run fails only if a server does not start or answers
wrongly. `docs/benchmarks.md` explains how to read a run.
"""
