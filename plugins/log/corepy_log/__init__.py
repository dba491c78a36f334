"""log: one line for each query, on standard output."""

from corepy_log.setup import setup as setup

api_version = 1
