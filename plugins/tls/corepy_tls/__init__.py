"""tls: sets the certificate for the encrypted transports of a server block."""

from corepy_tls.setup import setup as setup

api_version = 1
