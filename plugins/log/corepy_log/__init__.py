"""log: writes a line for each query to standard output."""

from corepy_log.setup import setup as setup

api_version = 1
