"""example: answers TXT queries with a text. A plugin for corepy."""

from corepy_example.setup import setup as setup

api_version = 1

# Where to stand in the chain; without both, right above cache. `corepy -plugins -order` shows it.
# before = ("log",)
# after = ("errors",)
