"""file: answers from zone files."""

from corepy_file.setup import setup as setup

api_version = 1
