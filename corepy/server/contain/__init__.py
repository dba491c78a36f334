"""Contains the failures of plugins.

`guard` validates the replies of a handler, `attribution` finds the plugin that code belongs to,
and `failure_report` logs and counts a failure under its name. `event_loop` runs an event loop that
an exception does not end, and `loop_watchdog` finds the code that blocks it.
"""
