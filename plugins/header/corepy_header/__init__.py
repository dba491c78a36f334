"""header: sets and clears header flags of queries and replies."""

from corepy_header.setup import setup as setup

api_version = 1
