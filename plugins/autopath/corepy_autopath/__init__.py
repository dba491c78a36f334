"""autopath: searches the domains of a search path on the server."""

from corepy_autopath.setup import setup as setup

api_version = 1
