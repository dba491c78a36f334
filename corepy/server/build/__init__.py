"""Builds a generation from a Corefile.

In reading order: `loader` reads the Corefile, `builder` sets up the plugins of its blocks,
`validate` checks their handlers, `handler_chain` links them, and `generation` is the result. Its
plugin manager is in `hookmanager`.
"""
