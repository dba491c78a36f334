"""Mutation testing: finds small faults in a module that the test suite does not notice.

Reading order: `mutations` finds the small faults that a module can have; `tracing` inserts `probe`
into the modules to record which tests run which lines, and `trace` keeps the record; `trials` makes
one fault at a time in a copy of the tree and has a `warm` process run those tests; `groups` lists
the modules; `__main__` draws a sample and prints the survivors.

    make mutants ARGS='--group cache --count 40 --seed 7'
    make mutants ARGS='--trace /tmp/corepy.trace --seed 7'

The second form keeps the record of the trace run, which takes longer than the trials, and uses it
again if the file exists. `--retrace tests/test_new.py` adds the tests of a file to it, and
`--again OUTPUT` tries the survivors of an earlier run once more.

A mutant is noticed if a test fails or does not end. A survivor is either equivalent (no input
distinguishes it from the original) or a behaviour without a test.
"""
