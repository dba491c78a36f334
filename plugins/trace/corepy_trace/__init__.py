"""trace: sends spans of queries, and of the plugins that they pass, to a collector."""

from corepy_trace.setup import setup as setup

api_version = 1
