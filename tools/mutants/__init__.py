"""Mutation testing: finds small faults in a module that the test suite does not notice.

Reading order: `mutations` finds the small faults that a module can have; `tracing` records which
tests run which lines; `trials` runs those tests on one fault at a time, in a copy of the tree;
`__main__` draws a sample and prints the survivors.

    make mutants ARGS='--group cache --count 40 --seed 7'

A mutant is noticed if a test fails or does not end. A survivor is either equivalent (no input can
tell it from the original) or a behaviour without a test.
"""
