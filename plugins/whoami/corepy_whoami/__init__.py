"""whoami: returns the address, port and transport of the client."""

from corepy_whoami.setup import setup as setup

api_version = 1
