"""loop: finds out whether what is forwarded comes back."""

from corepy_loop.setup import setup as setup

api_version = 1
