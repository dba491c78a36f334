"""reload: takes a changed configuration over while the server goes on."""

from corepy_reload.setup import setup as setup

api_version = 1
acts_once = True
