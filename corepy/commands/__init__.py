"""The built-in commands `corepy NAME ...`; plugins add their own.

Each is a module with `parser()`, which returns the parser of its arguments, and `main(arguments)`,
which returns the exit code: 0 success, 1 failure, 2 wrong usage. They are found like the commands
of plugins, through the entry-point group `corepy.commands`. `plugin_list` is the flag `-plugins`,
and `standard_output` serves all of them.
"""
