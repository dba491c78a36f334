"""metadata: collects the labels that plugins provide for a query."""

from corepy_metadata.setup import setup as setup

api_version = 1
