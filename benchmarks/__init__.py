"""Side-by-side measurements of corepy and other DNS servers on loopback: `python -m benchmarks`.

What is measured: `benchmarks.cases`. Against whom: `benchmarks.servers`. How: `benchmarks.runner`.
Nothing here asserts on time; a run fails only if a server does not start or answers wrongly.
`docs/benchmarks.md` says how to read a run.
"""
