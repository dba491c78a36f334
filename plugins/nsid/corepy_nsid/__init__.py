"""nsid: tells clients that ask which server answered."""

from corepy_nsid.setup import setup as setup

api_version = 1
