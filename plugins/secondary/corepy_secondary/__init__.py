"""secondary: answers from zones that it transfers from other servers."""

from corepy_secondary.setup import setup as setup

api_version = 1
