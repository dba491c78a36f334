"""Builds a generation from a Corefile.

In reading order: `loader` reads the Corefile, `builder` sets up the plugins of its blocks and
chains their handlers, `validate` checks these handlers, and `generation` is the result. Its plugin
manager is in `hookmanager`.
"""
