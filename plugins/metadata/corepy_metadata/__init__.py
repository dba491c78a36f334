"""metadata: collects what plugins know about a query."""

from corepy_metadata.setup import setup as setup

api_version = 1
