"""The commands `corepy NAME ...` that are corepy's own; plugins bring others.

Each is a module with `parser()`, which returns what reads its arguments, and `main(arguments)`,
which returns the exit code: 0 done, 1 it could not be, 2 wrong usage. They are found as those of
plugins are, through the entry-point group `corepy.commands`.
"""
