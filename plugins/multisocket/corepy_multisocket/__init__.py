"""multisocket: several sockets at each address, each with a process of its own."""

from corepy_multisocket.setup import setup as setup

api_version = 1
