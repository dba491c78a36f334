"""any: answers queries of type ANY with one short record."""

from corepy_any.setup import setup as setup

api_version = 1
