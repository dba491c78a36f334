"""multisocket: opens several sockets at each address, each with its own process."""

from corepy_multisocket.setup import setup as setup

api_version = 1
