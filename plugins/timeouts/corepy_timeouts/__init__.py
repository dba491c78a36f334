"""timeouts: how long TCP clients may take."""

from corepy_timeouts.setup import setup as setup

api_version = 1
