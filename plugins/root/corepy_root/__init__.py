"""root: sets the folder for relative paths in the server block."""

from corepy_root.setup import setup as setup

api_version = 1
