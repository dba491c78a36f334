"""view: a server block answers only queries for which expressions are true."""

from corepy_view.setup import setup as setup

api_version = 1
