"""ready: an endpoint that tells whether all plugins can do their work."""

from corepy_ready.setup import setup as setup

api_version = 1
acts_once = True
