"""minimal: leaves out what a client did not ask for."""

from corepy_minimal.setup import setup as setup

api_version = 1
