"""rewrite: changes queries before the next plugins get them, and the replies to them."""

from corepy_rewrite.setup import setup as setup

api_version = 1
