"""bind: sets the addresses that a server block listens on."""

from corepy_bind.setup import setup as setup

api_version = 1
