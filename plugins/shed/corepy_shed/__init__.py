"""shed: counts the queries and replies that the server drops under overload."""

from corepy_shed.setup import setup as setup

api_version = 1
acts_once = True
