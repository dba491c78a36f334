"""example: answers TXT queries with a text. A plugin for corepy."""

from corepy_example.setup import setup as setup

api_version = 1

# Position in the chain: right above cache by default. `corepy -plugins -order` shows it.
# before = ("log",)
# after = ("errors",)
