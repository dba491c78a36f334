"""minimal: removes the authority and additional sections from answers."""

from corepy_minimal.setup import setup as setup

api_version = 1
