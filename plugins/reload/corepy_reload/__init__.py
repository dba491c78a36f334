"""reload: loads a changed configuration while the server runs."""

from corepy_reload.setup import setup as setup

api_version = 1
acts_once = True
