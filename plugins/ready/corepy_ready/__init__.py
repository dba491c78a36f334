"""ready: an HTTP endpoint that reports whether all plugins are ready."""

from corepy_ready.setup import setup as setup

api_version = 1
acts_once = True
