"""health: an HTTP endpoint that reports whether this server answers DNS queries."""

from corepy_health.setup import setup as setup

api_version = 1
acts_once = True
