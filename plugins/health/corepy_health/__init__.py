"""health: an endpoint that tells whether this server answers DNS."""

from corepy_health.setup import setup as setup

api_version = 1
acts_once = True
