"""https: limits the clients of https:// listeners."""

from corepy_https.setup import setup as setup

api_version = 1
