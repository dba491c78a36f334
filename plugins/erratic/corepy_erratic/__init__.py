"""erratic: drops, delays and truncates replies, to test clients."""

from corepy_erratic.setup import setup as setup

api_version = 1
