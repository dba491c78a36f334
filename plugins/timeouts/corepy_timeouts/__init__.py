"""timeouts: sets the time limits for TCP clients."""

from corepy_timeouts.setup import setup as setup

api_version = 1
