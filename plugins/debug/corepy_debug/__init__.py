"""debug: enables tracebacks and debug messages in the log."""

from corepy_debug.setup import setup as setup

api_version = 1
