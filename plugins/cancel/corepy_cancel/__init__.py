"""cancel: limits the time for answering a query."""

from corepy_cancel.setup import setup as setup

api_version = 1
