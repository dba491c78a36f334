"""loop: detects forwarding loops."""

from corepy_loop.setup import setup as setup

api_version = 1
