"""proxyproto: takes the address of the client from PROXY headers."""

from corepy_proxyproto.setup import setup as setup

api_version = 1
