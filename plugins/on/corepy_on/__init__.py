"""on: runs commands when the server starts or stops."""

from corepy_on.setup import setup as setup

api_version = 1
acts_once = True
