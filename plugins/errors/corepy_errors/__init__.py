"""errors: logs why queries failed, one line each or consolidated."""

from corepy_errors.setup import setup as setup

api_version = 1
