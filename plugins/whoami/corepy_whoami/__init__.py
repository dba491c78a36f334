"""whoami: tells a client which address, port and transport its query came from."""

from corepy_whoami.setup import setup as setup

api_version = 1
